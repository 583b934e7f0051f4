"""The ONNX graph: translated, simplified and stamped with its contract; other forms."""
