"""The stages of a verdict, one module each."""
