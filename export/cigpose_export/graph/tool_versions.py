"""The versions of the packages that have a part in the bytes of an artefact."""

from __future__ import annotations

from importlib.metadata import distribution, version

from cigpose_export import __version__

PACKAGES = (
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxsim",
    "onnxruntime",
    "protobuf",
    "numpy",
    "mmengine",
    "mmcv-lite",
    "mmpose",
)


def tool_versions() -> dict[str, str]:
    """The versions of the toolchain and of `PACKAGES`, by name."""
    return {"cigpose-toolchain": __version__, **{name: _public_version(name) for name in PACKAGES}}


def _public_version(name: str) -> str:
    """Without the local part: 2.13.0+cpu and 2.13.0 export the same bytes."""
    return version(name).partition("+")[0]


def mmpose_files() -> str:
    """The hashes of the installed MMPose's files: a fork differs in them, not in its version."""
    return distribution("mmpose").read_text("RECORD") or ""
