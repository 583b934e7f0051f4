"""Checkpoints: fetched, hashed, opened safely, or synthesised in the very same form."""
