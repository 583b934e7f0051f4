"""The versions of the packages that have a part in the bytes of an artefact."""

from __future__ import annotations

from importlib.metadata import version

from cigpose_export import __version__

PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim", "mmengine", "mmcv-lite", "mmpose")


def tool_versions() -> dict[str, str]:
    """The versions of the toolchain and of `PACKAGES`, by name."""
    return {"cigpose-toolchain": __version__, **{name: version(name) for name in PACKAGES}}
