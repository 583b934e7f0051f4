"""The PyTorch side: what the reference model answers."""
