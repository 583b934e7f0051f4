"""The ONNX graph: translated, simplified, made portable, and stamped with its contract."""
