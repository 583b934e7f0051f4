"""Opens a detector in an ONNX file, whatever its form."""

from __future__ import annotations

from os import PathLike
from typing import Any

from cigpose_runtime.errors import error_context
from cigpose_runtime.estimation.mmdeploy_detector import MmdeployDetector
from cigpose_runtime.estimation.onnx_detector import OnnxDetector, not_of_form
from cigpose_runtime.estimation.yolox import YoloxDetector
from cigpose_runtime.model_file.onnx_graph import read_onnx_file

FORMS: tuple[type[OnnxDetector], ...] = (YoloxDetector, MmdeployDetector)


def open_onnx_detector(path: str | PathLike[str], **options: Any) -> OnnxDetector:
    """The detector in a file, of the class that fits its inputs and outputs.

    options: as OnnxDetector's. Raises what that raises, and OnnxFileError where none fits.
    """
    onnx_file = read_onnx_file(path)
    for form in FORMS:
        if form.fits(onnx_file):
            return form(path, **options)
    expected = ", or ".join(form.form for form in FORMS)
    with error_context(path):
        raise not_of_form(f"a detector: {expected}", onnx_file)
