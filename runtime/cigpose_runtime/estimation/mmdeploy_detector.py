"""RTMDet and YOLOX of MMDetection in ONNX files as mmdeploy exports them, suppression inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import OnnxFileError
from cigpose_runtime.estimation.onnx_detector import (
    LABELS,
    MAX_VALUES,
    OnnxDetector,
    not_of_form,
    takes_pictures,
)
from cigpose_runtime.model_file.onnx_graph import OnnxFile

BOXES = "dets"

FOCUS = frozenset({"Slice", "Reshape", "SpaceToDepth"})
"""Operators that cut the input into quarters, in the exports of different versions."""


class MmdeployDetector(OnnxDetector):
    """An RTMDet or YOLOX of MMDetection that mmdeploy exported: the outputs are people already.

    Pictures are letterboxed as for YOLOX, and for RTMDet normalised. Which of them it is shows in
    the graph: YOLOX cuts its input into quarters first (Focus), RTMDet starts with a convolution
    and has channel attention with a HardSigmoid. Another one is refused.
    nms_threshold: 1 if None, as the graph has suppressed the boxes with a threshold of its own. All
    else is as in OnnxDetector.
    """

    form = (
        "an RTMDet or YOLOX of MMDetection: one input (batch, 3, height, width) and the outputs "
        "dets (batch, people, 5) and labels (batch, people), as mmdeploy exports it"
    )
    own_nms_threshold = 1.0

    @classmethod
    def fits(cls, onnx_file: OnnxFile) -> bool:
        """Whether there are the two outputs of mmdeploy."""
        ranks = {value.name: len(value.shape or ()) for value in onnx_file.outputs}
        return takes_pictures(onnx_file) and ranks == {BOXES: 3, LABELS: 2}

    def _outputs(self, onnx_file: OnnxFile) -> dict[str, tuple[int | None, ...]]:
        first = onnx_file.input_operators
        self.is_normalised = "Conv" in first and "HardSigmoid" in onnx_file.op_counts
        if not self.is_normalised and ("Conv" in first or first.isdisjoint(FOCUS)):
            raise OnnxFileError(
                f"expected {self.form}; found another detector that mmdeploy exported, for which "
                "nothing says how pictures are normalised; give --detector MODULE:FUNCTION"
            )
        shapes = {value.name: value.shape or () for value in onnx_file.outputs}
        _, people, columns = shapes[BOXES]
        if columns != 5 and isinstance(columns, int):
            raise not_of_form(self.form, onnx_file)
        count = people if isinstance(people, int) else None
        self.check_size(1 if count is None else count, 5, most=MAX_VALUES, of_what="an output")
        return {BOXES: (count, 5), LABELS: (count,)}

    def _found(self, outputs: Sequence[Any]) -> tuple[Floats, Floats]:
        found, labels = outputs
        if len(found) != len(labels):
            raise OnnxFileError(
                f"expected a label for each of {len(found)} boxes, found {len(labels)}; export the "
                "detector again"
            )
        people = found[labels == self.class_id]
        return people[:, :4], people[:, 4]
