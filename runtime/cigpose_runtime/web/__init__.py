"""The web page: its files in page/, the engine that runs models in it, and a server for both.

The page is plain ES modules, served as they lie here; page/main.mjs is where to start reading.
"""
