"""Settings that all tests share; it also puts this folder, and so tiny_onnx, on the import path."""

from hypothesis import settings

# Same examples in every run and no time limit per example: a failure is never the machine's mood.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
