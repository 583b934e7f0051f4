"""Judges CIGPose ONNX artefacts, with neither PyTorch nor MMPose at hand."""
