"""How far two outputs are apart, and how close is close enough."""
