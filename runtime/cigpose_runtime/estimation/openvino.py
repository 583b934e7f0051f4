"""OpenVINO as an execution provider, in float32.

By itself it computes in bfloat16 where the processor can, which moves keypoints
(docs/engines.md). Two packages bring it: onnxruntime-ep-openvino, a plugin of the ordinary
onnxruntime, which takes no place among `providers=`; and onnxruntime-openvino, an onnxruntime of
its own with the provider inside.
"""

from __future__ import annotations

import functools
import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cigpose_runtime.errors import ProviderError, first_line

OPENVINO = "OpenVINOExecutionProvider"
PLUGIN = "onnxruntime_ep_openvino"


def settings(threads: int | None) -> dict[str, str]:
    """The provider's options: float32 on the CPU, on this many threads, its own choice if None."""
    cpu = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        cpu["INFERENCE_NUM_THREADS"] = str(threads)
    return {"load_config": json.dumps({"CPU": cpu})}


@functools.cache
def plugin_device() -> Any | None:
    """The CPU as the plugin drives it, None where there is no plugin.

    Raises ProviderError for a plugin that this onnxruntime does not load.
    """
    from cigpose_runtime.estimation.ort import ort

    if find_spec(PLUGIN) is None:
        return None
    try:
        ort.register_execution_provider_library(PLUGIN, import_module(PLUGIN).get_library_path())
    except Exception as error:
        raise ProviderError(
            f"expected a plugin that onnxruntime {ort.__version__} loads, found that "
            f"{PLUGIN} fails ({first_line(error)}); install another release of it"
        ) from error
    devices = [one for one in ort.get_ep_devices() if one.ep_name == OPENVINO]
    return next(one for one in devices if one.ep_metadata.get("ov_device") == "CPU")
