"""What a model file says of itself, read without the onnx package."""
