"""onnxruntime, imported with its telemetry off: `from cigpose_runtime.estimation.ort import ort`.

From 1.32 on, onnxruntime reports a device id, the processor and the path of the interpreter to its
maker as soon as it is imported, and keeps a queue of reports in ~/.cache/Microsoft. Only this
variable, set before the import, stops it: `disable_telemetry_events()` comes too late. Whoever
wants the reports sets ORT_DISABLE_TELEMETRY=0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
