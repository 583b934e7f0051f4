"""Opens models in onnxruntime: providers as asked for, never a silent fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypedDict

from cigpose_runtime.errors import OnnxFileError, ProviderError, first_line
from cigpose_runtime.estimation.openvino import OPENVINO, plugin_device, settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"


class SessionOptions(TypedDict):
    """What models and detectors pass on to open_session."""

    providers: Sequence[str]
    threads: int | None
    spinning: bool


LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
"""onnxruntime's graph optimisation levels."""

_INSTALL = {OPENVINO: 'run: pip install "cigpose-runtime[openvino]"'}
_INSTALL_ANY = "install the onnxruntime build that brings it"


def open_session(
    model: str | PathLike[str] | bytes,
    *,
    providers: Sequence[str] = (CPU,),
    threads: int | None = None,
    level: str = "all",
    spinning: bool = True,
) -> Any:
    """An onnxruntime.InferenceSession on a file, or on a model in memory.

    providers: execution providers by onnxruntime's names, the preferred one first; what the first
    does not support runs on the following ones, and on the CPU. OpenVINO computes in float32.
    threads: for one operator, onnxruntime's choice if None. level: one of LEVELS. spinning: threads
    wait for each other's next step without sleeping, which is faster unless other work wants the
    cores; between runs they sleep in any case.
    Raises ProviderError when a provider is not there or does not take part, OnnxFileError when
    onnxruntime refuses the model.
    """
    from cigpose_runtime.estimation.ort import ort

    require_providers(providers)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    if threads is not None:
        options.intra_op_num_threads = threads
    if spinning:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong is raised, too
    # Not by the file's name or first bytes: what was read as ONNX must not run as something else.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    source = model if isinstance(model, bytes) else fspath(model)
    asked: list[Any] | None = [
        (provider, settings(threads)) if provider == OPENVINO else provider
        for provider in providers
    ]
    if OPENVINO in providers and plugin_device() is not None:
        options.add_provider_for_devices([plugin_device()], settings(threads))
        asked = None  # the options have it, and the CPU follows by itself
    try:
        # Its own fallback prints to stdout, and tries again what it has refused.
        session = ort.InferenceSession(source, options, providers=asked, enable_fallback=False)
    except Exception as error:
        name = "" if isinstance(model, bytes) else f"{fspath(model)}: "
        raise OnnxFileError(
            f"{name}expected a model that onnxruntime {ort.__version__} loads, found one that it "
            f"refuses ({first_line(error)}); export it again"
        ) from error
    missing = [provider for provider in providers if provider not in session.get_providers()]
    if missing:
        raise ProviderError(
            f"expected {', '.join(missing)} to run the model, found that onnxruntime fell back to "
            f"{', '.join(session.get_providers())}; fix its installation or leave it out"
        )
    return session


def run_session(
    session: Any,
    feed: Mapping[str, NDArray[Any]],
    expected: Mapping[str, tuple[int | None, ...]],
    *,
    labels: str | None = None,
) -> list[Any]:
    """Runs a model; returns the outputs that are expected, by name, in their order.

    expected: the shape of each, None for a size that is not known. Shapes in a file promise
    nothing: a graph may compute others. labels: the one that has int64 and not float32.
    Raises OnnxFileError when onnxruntime stops, and for outputs of another type or shape.
    """
    import numpy as np  # here: names of providers are needed where numpy is broken

    try:
        outputs: list[Any] = session.run(list(expected), dict(feed))
    except Exception as error:
        raise OnnxFileError(
            f"expected the model to run, found that onnxruntime stops ({first_line(error)}); "
            "export it again"
        ) from error
    for (name, shape), output in zip(expected.items(), outputs, strict=True):
        there = np.asarray(output)
        dtype = np.dtype(np.int64 if name == labels else np.float32)
        fits = there.dtype == dtype and there.ndim == len(shape)
        if not fits or any(a not in (None, b) for a, b in zip(shape, there.shape, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise OnnxFileError(
                f"{name}: expected {dtype} ({wanted}), found {there.dtype} {there.shape}; "
                "export the model again"
            )
    return outputs


def require_providers(providers: Sequence[str]) -> None:
    """Raises ProviderError for one that the installed onnxruntime does not have."""
    from cigpose_runtime.estimation.ort import ort

    available = ort.get_available_providers()
    if OPENVINO in providers and OPENVINO not in available and plugin_device() is not None:
        available = [OPENVINO, *available]
    for provider in providers:
        if provider not in available:
            raise ProviderError(
                f"expected an execution provider of this onnxruntime, found {provider!r}; it has "
                f"{', '.join(available)}; {_INSTALL.get(provider, _INSTALL_ANY)}"
            )
