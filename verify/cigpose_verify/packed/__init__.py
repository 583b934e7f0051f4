"""The verdict on packed files: bit for bit what the runtime makes of the same frames."""
