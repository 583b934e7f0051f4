"""Where the people of a frame are: detectors, any callable from a frame to Detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import InputError, OnnxFileError, error_context
from cigpose_runtime.estimation.session import CPU, SessionOptions, open_session, run_session
from cigpose_runtime.model_file.onnx_graph import read_onnx_file
from cigpose_runtime.overlap import iou

PADDING_LEVEL = 114
"""Grey level beside the picture in YOLOX's input (Megvii's preproc)."""

STRIDES = ((8, 16, 32), (8, 16, 32, 64))
"""Pixels per cell on each level of a YOLOX: P5 and P6 models."""


MAX_PIXELS = 1 << 22
"""Of a YOLOX's input, whole batch (one picture of a P6 model has 1280 x 1280): 50 MB."""

MAX_VALUES = 1 << 26
"""Of its output (COCO's classes at 1280 x 1280 take 3 million): 256 MB."""

MAX_CANDIDATES = 4096
"""Boxes that suppression looks at, those of the best scores: it takes time by their square."""


@dataclass(frozen=True, eq=False)
class Detections:
    """People in a frame: boxes_xyxy (N, 4) float32 in frame pixels and their scores (N,)."""

    boxes_xyxy: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.scores), 4):
            raise InputError(
                f"detections: expected boxes (N, 4) and scores (N,), found "
                f"{self.boxes_xyxy.shape} and {self.scores.shape}; correct the detector"
            )

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Any callable that takes a frame, (H, W, 3) uint8 BGR, and returns Detections."""

    def __call__(self, frame: Pixels) -> Detections: ...


DetectorFor = Callable[[Path], Detector]
"""The detector for a picture or video, by its path: boxes that are given differ with it."""


class WholeFrameDetector:
    """Takes the whole frame for one person: for pictures that are crops already.

    >>> WholeFrameDetector()(np.zeros((480, 640, 3), np.uint8)).boxes_xyxy.tolist()
    [[0.0, 0.0, 640.0, 480.0]]
    """

    def __call__(self, frame: Pixels) -> Detections:
        height, width = frame.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


class FixedBoxesDetector:
    """Gives the same boxes for every frame. boxes_xyxy: (N, 4) in frame pixels.

    >>> detector = FixedBoxesDetector([[100, 40, 300, 460]])
    >>> detector(np.zeros((480, 640, 3), np.uint8)).boxes_xyxy.tolist()
    [[100.0, 40.0, 300.0, 460.0]]
    """

    def __init__(self, boxes_xyxy: ArrayLike) -> None:
        boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        self._detections = Detections(boxes, np.ones(len(boxes), np.float32))

    def __call__(self, frame: Pixels) -> Detections:
        return self._detections


class YoloxDetector:
    """A YOLOX in an ONNX file, with Megvii's conventions: BGR, 0 to 255, letterbox with 114.

    Input size, strides (P5 or P6) and number of classes follow from the shapes in the file. Some
    exports return boxes and some the raw prediction of each grid cell; which of them this file
    returns shows on a grey picture when it is opened: boxes lie where their cells do.
    class_id: of people, 0 in COCO. score_threshold: on objectness times class score.
    nms_threshold: the largest overlap (IoU) of two boxes. providers, threads, spinning and
    pickling are as in PoseModel.
    grid: column and row (cells, 2) and stride (cells, 1) of each cell, float32. is_decoded: whether
    the model returns boxes. batch: pictures that it takes at once.
    Raises FileError, OnnxFileError and ProviderError, each naming the file.

    >>> detector = YoloxDetector("yolox.onnx", score_threshold=0.5)
    >>> found = detector(np.zeros((480, 640, 3), np.uint8))
    >>> found.boxes_xyxy.shape, found.scores.shape
    ((2, 4), (2,))
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        score_threshold: float = 0.35,
        nms_threshold: float = 0.45,
        class_id: int = 0,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        onnx_file = read_onnx_file(path)
        with error_context(path):
            shapes = [value.shape or () for value in (*onnx_file.inputs, *onnx_file.outputs)]
            if len(shapes) != 2 or [len(shape) for shape in shapes] != [4, 3]:
                raise _no_yolox(shapes)
            batch, _, height, width = shapes[0]
            if not isinstance(height, int) or not isinstance(width, int):
                raise _no_yolox(shapes)
            self.batch = batch if isinstance(batch, int) else 1
            _check_size(self.batch, width, height, MAX_PIXELS, "an input")
            grid = _grid_for(shapes[1][1], width, height)
            columns = shapes[1][2] if isinstance(shapes[1][2], int) else None
            if grid is None or (columns is not None and class_id >= columns - 5):
                raise _no_yolox(shapes)
            _check_size(self.batch, len(grid[0]), columns or 1, MAX_VALUES, "an output")
            self._expected = {
                onnx_file.outputs[0].name: (
                    self.batch,
                    len(grid[0]),
                    columns,
                )
            }
        self.input_wh = width, height
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.class_id = class_id
        self.grid = grid
        self._input = onnx_file.inputs[0].name
        self._path = Path(path).absolute()
        self._options = SessionOptions(
            providers=tuple(providers), threads=threads, spinning=spinning
        )
        self._session = open_session(path, **self._options)
        self.is_decoded = self._sees_decoded()

    def __call__(self, frame: Pixels) -> Detections:
        """The people in a frame, the highest score first."""
        blob, ratio = letterbox(frame, self.input_wh)
        predictions = self._predict(blob)
        with np.errstate(over="ignore", invalid="ignore"):  # a box that is not finite is none
            scores = predictions[:, 4] * predictions[:, 5 + self.class_id]
            chosen = np.flatnonzero(scores >= self.score_threshold)
            boxes, scores = self._boxes(predictions, chosen), scores[chosen]
            is_finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            boxes, scores = boxes[is_finite], scores[is_finite]
            kept = nms(boxes, scores, self.nms_threshold)
        height, width = frame.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        in_frame = np.clip(boxes[kept] / np.float32(ratio), 0, limits)
        has_area = (in_frame[:, 2:] - in_frame[:, :2] >= 1).all(axis=1)
        return Detections(in_frame[has_area], scores[kept][has_area])

    def __reduce__(self) -> tuple[Callable[[], YoloxDetector], tuple[()]]:
        opened_again = partial(
            YoloxDetector,
            self._path,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            class_id=self.class_id,
            **self._options,
        )
        return opened_again, ()

    def _predict(self, blob: Floats) -> Floats:
        """The network's predictions for one letterboxed picture: (cells, 5 + classes)."""
        fed = np.repeat(blob[np.newaxis], self.batch, axis=0)
        (output,) = run_session(self._session, {self._input: fed}, self._expected)
        predictions: Floats = output[0]
        if predictions.shape[1] <= 5 + self.class_id:
            raise _no_yolox([list(output.shape)])
        return predictions

    def _boxes(self, predictions: Floats, chosen: NDArray[np.intp]) -> Floats:
        """Boxes (n, 4) xyxy in pixels of the input."""
        cells, strides = self.grid
        centers, sizes = predictions[chosen, :2], predictions[chosen, 2:4]
        if not self.is_decoded:
            centers = (centers + cells[chosen]) * strides[chosen]
            sizes = np.exp(sizes) * strides[chosen]
        return np.hstack([centers - sizes / 2, centers + sizes / 2])

    def _sees_decoded(self) -> bool:
        """Do predictions lie where their cells do, or around 0, as offsets in cells do?"""
        width, height = self.input_wh
        grey = np.full((3, height, width), PADDING_LEVEL, np.float32)
        centers = self._predict(grey)[:, :2]
        cells, strides = self.grid
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.median(np.abs(centers / strides - cells)) < np.median(np.abs(centers)))


def _grid_for(count: object, width: int, height: int) -> tuple[Floats, Floats] | None:
    """Cells (n, 2) and strides (n, 1) of the levels that make `count` predictions."""
    for strides in STRIDES:
        sizes = [(width // s, height // s) for s in strides]
        if not isinstance(count, int) or count == sum(w * h for w, h in sizes):
            cells = [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1) for w, h in sizes]
            flat = [level.reshape(-1, 2) for level in cells]
            steps = [np.full((len(c), 1), s) for c, s in zip(flat, strides, strict=True)]
            return (
                np.concatenate(flat).astype(np.float32),
                np.concatenate(steps).astype(np.float32),
            )
    return None


def _check_size(batch: int, width: int, height: int, most: int, of_what: str) -> None:
    if min(batch, width, height) < 1 or batch * width * height > most:
        raise OnnxFileError(
            f"expected {of_what} of 1 to {most:,} values, found {batch} x {width} x {height}; "
            "export a smaller YOLOX"
        )


def _no_yolox(shapes: Sequence[object]) -> OnnxFileError:
    return OnnxFileError(
        "expected a YOLOX: one input (batch, 3, height, width) and one output (batch, cells, 5 + "
        f"classes) with the cells of strides 8, 16, 32 or 8 to 64, found {list(shapes)}; export "
        "it with YOLOX's tools/export_onnx.py"
    )


def letterbox(frame: Pixels, input_wh: tuple[int, int]) -> tuple[Floats, float]:
    """A frame as YOLOX's input (3, h, w), scaled to fit at the top left, and the scale."""
    width, height = input_wh
    ratio = min(height / frame.shape[0], width / frame.shape[1])
    new_w, new_h = max(1, int(frame.shape[1] * ratio)), max(1, int(frame.shape[0] * ratio))
    blob = np.full((3, height, width), PADDING_LEVEL, np.float32)
    blob[:, :new_h, :new_w] = np.rint(_resized(frame, (new_w, new_h))).transpose(2, 0, 1)
    return blob, ratio


def _resized(frame: Pixels, size_wh: tuple[int, int]) -> Floats:
    """Bilinear interpolation between pixel centres, as cv2.resize: (h, w, 3) float32."""
    (x, x_next, x_share), (y, y_next, y_share) = (
        _sources(size, there)
        for size, there in zip(size_wh, (frame.shape[1], frame.shape[0]), strict=True)
    )
    rows = frame[y] * (1 - y_share)[:, None, None] + frame[y_next] * y_share[:, None, None]
    resized = rows[:, x] * (1 - x_share)[:, None] + rows[:, x_next] * x_share[:, None]
    return np.asarray(resized, np.float32)


def _sources(size: int, there: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each new pixel along one axis: the pixels before and after it, and the latter's share."""
    places = np.clip((np.arange(size) + 0.5) * (there / size) - 0.5, 0, there - 1)
    before = np.floor(places).astype(np.intp)
    return before, np.minimum(before + 1, there - 1), (places - before).astype(np.float32)


def nms(boxes_xyxy: Floats, scores: Floats, threshold: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first; no two overlap by more than `threshold`.

    Of more than MAX_CANDIDATES boxes, those of the best scores.
    """
    left = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    kept = []
    while left.size:
        kept.append(left[0])
        overlap = iou(boxes_xyxy[left[:1]], boxes_xyxy[left[1:]])[0]
        left = left[1:][overlap <= threshold]
    return np.array(kept, np.intp)
