"""`make engines`: what other engines make of our files, run and not claimed.

`table` lists the engines, `install` gives each a Python of its own, `runners` is what runs there,
`measure` compares its answers with onnxruntime's, and `page` writes docs/engines.md.
"""
