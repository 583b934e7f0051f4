"""What a verdict takes, a stage a module."""
