"""YOLOX in an ONNX file as Megvii exports it, without suppression: a prediction for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import OnnxFileError, error_context
from cigpose_runtime.estimation.letterbox import PADDING_LEVEL
from cigpose_runtime.estimation.onnx_detector import (
    MAX_VALUES,
    OnnxDetector,
    not_of_form,
    takes_pictures,
)
from cigpose_runtime.model_file.onnx_graph import OnnxFile

STRIDES = ((8, 16, 32), (8, 16, 32, 64))
"""Pixels per cell on each level of a YOLOX: P5 and P6 models."""

Grid = tuple[Floats, Floats]
"""Column and row (cells, 2) and stride (cells, 1) of each cell."""


class YoloxDetector(OnnxDetector):
    """A YOLOX in an ONNX file, with Megvii's conventions: BGR, 0 to 255, letterbox with 114.

    Input size, strides (P5 or P6) and number of classes follow from the shapes in the file, or from
    what it computes. Some exports return boxes and some the raw prediction of each grid cell; which
    of them this file returns shows on a grey picture when it is opened: boxes lie where their
    cells do.
    score_threshold: of objectness times class score. nms_threshold: 0.45 if None.
    grid: column and row (cells, 2) and stride (cells, 1) of each cell, float32. is_decoded: whether
    the model returns boxes. All else is as in OnnxDetector.

    >>> detector = YoloxDetector("yolox.onnx", score_threshold=0.5)
    >>> found = detector(np.zeros((480, 640, 3), np.uint8))
    >>> found.boxes_xyxy.shape, found.scores.shape
    ((2, 4), (2,))
    """

    form = (
        "a YOLOX: one input (batch, 3, height, width) and one output (batch, cells, 5 + classes) "
        "with the cells of strides 8, 16, 32 or 8 to 64, as YOLOX's tools/export_onnx.py exports it"
    )
    own_nms_threshold = 0.45

    def __init__(self, path: str | PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        with error_context(path):
            self._look_at_grey()

    @classmethod
    def fits(cls, onnx_file: OnnxFile) -> bool:
        """Whether there is one output of rank 3."""
        shapes = [value.shape or () for value in onnx_file.outputs]
        return takes_pictures(onnx_file) and [len(shape) for shape in shapes] == [3]

    def _outputs(self, onnx_file: OnnxFile) -> dict[str, tuple[int | None, ...]]:
        (output,) = onnx_file.outputs
        _, cells, columns = (size if isinstance(size, int) else None for size in output.shape or ())
        counts = [len(grid[0]) for grid in _grids(self.input_wh)]
        has_class = columns is None or columns > 5 + self.class_id
        if cells not in (None, *counts) or not has_class:
            raise not_of_form(self.form, onnx_file)
        self.check_size(cells or max(counts), columns or 1, most=MAX_VALUES, of_what="an output")
        return {output.name: (cells, columns)}

    def _look_at_grey(self) -> None:
        width, height = self.input_wh
        (output,) = self._run(np.full((1, 3, height, width), PADDING_LEVEL, np.float32))
        _, count, columns = output.shape
        grid = next((one for one in _grids(self.input_wh) if len(one[0]) == count), None)
        if grid is None or columns <= 5 + self.class_id:
            raise OnnxFileError(f"expected {self.form}; found that it computes {output.shape}")
        self.grid = cells, strides = grid
        # Do predictions lie where their cells do, or around 0, as offsets in cells?
        centers = output[0, :, :2]
        with np.errstate(over="ignore", invalid="ignore"):
            near, far = np.abs(centers / strides - cells), np.abs(centers)
            self.is_decoded = bool(np.median(near) < np.median(far))
        self._expected = dict.fromkeys(self._expected, (count, columns))

    def _found(self, outputs: Sequence[Any]) -> tuple[Floats, Floats]:
        (predictions,) = outputs
        scores = predictions[:, 4] * predictions[:, 5 + self.class_id]
        chosen = np.flatnonzero(scores >= self.score_threshold)
        centers, sizes = predictions[chosen, :2], predictions[chosen, 2:4]
        if not self.is_decoded:
            cells, strides = self.grid
            centers = (centers + cells[chosen]) * strides[chosen]
            sizes = np.exp(sizes) * strides[chosen]
        return np.hstack([centers - sizes / 2, centers + sizes / 2]), scores[chosen]


def _grids(input_wh: tuple[int, int]) -> list[Grid]:
    """What the cells of P5 and of P6 models are, level after level."""
    grids = []
    for strides in STRIDES:
        sizes = [(input_wh[0] // stride, input_wh[1] // stride) for stride in strides]
        cells = [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1) for w, h in sizes]
        flat = [level.reshape(-1, 2) for level in cells]
        steps = [np.full((len(c), 1), s) for c, s in zip(flat, strides, strict=True)]
        grids.append(
            (np.concatenate(flat).astype(np.float32), np.concatenate(steps).astype(np.float32))
        )
    return grids
