"""Releases: fetched, checked, and replayed on this machine."""
