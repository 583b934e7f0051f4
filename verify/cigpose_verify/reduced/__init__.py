"""The verdict on files in reduced precision: what they would compute on hardware that rounds."""
