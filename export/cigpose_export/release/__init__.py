"""From a folder of verified models to artefacts that a stranger can trust."""
