"""Makes CIGPose ONNX artefacts: checkpoint and config in, checked ONNX file out."""

__version__ = "0.1.0"
