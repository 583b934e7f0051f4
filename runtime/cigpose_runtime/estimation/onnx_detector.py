"""Detectors in ONNX files: what those of all forms have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import InputError, OnnxFileError, error_context
from cigpose_runtime.estimation.detector import Detections, surest
from cigpose_runtime.estimation.letterbox import letterbox
from cigpose_runtime.estimation.session import CPU, SessionOptions, open_session, run_session
from cigpose_runtime.model_file.onnx_graph import OnnxFile, read_onnx_file

FREE_SIZE_WH = 640, 640
"""For a network that takes any size: what YOLOX-s to -x and RTMDet were trained with."""

LABELS = "labels"
"""The output that has classes, where there is one."""

MAX_PIXELS = 1 << 22
"""Of a detector's input, whole batch (one picture of a P6 model has 1280 x 1280): 50 MB."""

MAX_VALUES = 1 << 26
"""Of its output (COCO's classes at 1280 x 1280 take 3 million): 256 MB."""

MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)
STD_BGR = np.array([57.375, 57.12, 58.395], np.float32)
"""What RTMDet's input is normalised with, grey beside the picture too (MMDetection's configs)."""


class OnnxDetector(ABC):
    """Finds people with a network that takes letterboxed pictures; a class for each form of them.

    class_id: of people, 0 in COCO. score_threshold: the least score of a box. nms_threshold: the
    largest overlap (IoU) of two boxes, 1 for any. max_people: the surest that are kept, None for
    all. providers, threads, spinning and pickling are as in PoseModel.
    input_wh: of the network; of one that takes any size, FREE_SIZE_WH. batch: pictures that it
    takes at once, None for any number.
    Raises FileError, OnnxFileError and ProviderError, each naming the file.
    """

    form: ClassVar[str]
    """What its inputs and outputs are, for an error message."""

    own_nms_threshold: ClassVar[float]
    is_normalised = False

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        score_threshold: float = 0.35,
        nms_threshold: float | None = None,
        max_people: int | None = None,
        class_id: int = 0,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        self.score_threshold = score_threshold
        self.nms_threshold = self.own_nms_threshold if nms_threshold is None else nms_threshold
        self.max_people = max_people
        self.class_id = class_id
        onnx_file = read_onnx_file(path)
        with error_context(path):
            if not self.fits(onnx_file):
                raise not_of_form(self.form, onnx_file)
            batch, _, height, width = onnx_file.inputs[0].shape or ()
            self.batch = batch if isinstance(batch, int) else None
            self.input_wh = (
                width if isinstance(width, int) else FREE_SIZE_WH[0],
                height if isinstance(height, int) else FREE_SIZE_WH[1],
            )
            self.check_size(*self.input_wh, most=MAX_PIXELS, of_what="an input")
            self._expected = self._outputs(onnx_file)
        self._input = onnx_file.inputs[0].name
        self._path = Path(path).absolute()
        self._options = SessionOptions(
            providers=tuple(providers), threads=threads, spinning=spinning
        )
        self._session = open_session(path, **self._options)

    @classmethod
    @abstractmethod
    def fits(cls, onnx_file: OnnxFile) -> bool:
        """Whether inputs and outputs are those of this form."""

    @abstractmethod
    def _outputs(self, onnx_file: OnnxFile) -> dict[str, tuple[int | None, ...]]:
        """The outputs that are read, and their sizes behind the batch as run_session takes them."""

    @abstractmethod
    def _found(self, outputs: Sequence[Any]) -> tuple[Floats, Floats]:
        """Boxes (n, 4) xyxy in pixels of the input, and scores (n,), of one picture.

        outputs: without their first dimension. What is under the threshold may be left out.
        """

    def __call__(self, frame: Pixels) -> Detections:
        """The people in a frame, the highest score first."""
        return self.detect([frame])[0]

    def detect(self, frames: Sequence[Pixels]) -> list[Detections]:
        """The people in each of these frames, which go through the network at once.

        Raises InputError as require_batches does.
        """
        if len(frames) > 1:
            self.require_batches()
        blobs, ratios = zip(*(letterbox(frame, self.input_wh) for frame in frames), strict=True)
        outputs = self._run(np.stack(blobs))
        return [
            self._in_frame([output[row] for output in outputs], frame, ratio)
            for row, (frame, ratio) in enumerate(zip(frames, ratios, strict=True))
        ]

    def require_batches(self) -> None:
        """Raises InputError unless any number of frames can go through the network at once."""
        if self.batch is not None:
            raise InputError(
                f"{self._path}: expected a detector that takes any number of pictures at once, "
                f"found one that takes {self.batch}; export it with a dynamic batch, or have it "
                "take frame by frame"
            )

    def check_size(self, *sizes: int, most: int, of_what: str) -> None:
        """Raises OnnxFileError for sizes behind the batch that no detector has."""
        sizes = (1 if self.batch is None else self.batch, *sizes)
        if min(sizes) < 1 or math.prod(sizes) > most:
            raise OnnxFileError(
                f"expected {of_what} of 1 to {most:,} values, found "
                f"{' x '.join(map(str, sizes))}; export a smaller detector"
            )

    def _run(self, blobs: Floats) -> list[Any]:
        """The outputs for letterboxed pictures (n, 3, h, w)."""
        if self.is_normalised:
            blobs = (blobs - MEAN_BGR[:, None, None]) / STD_BGR[:, None, None]
        if self.batch is not None:
            blobs = np.repeat(blobs, self.batch, axis=0)
        expected = {name: (len(blobs), *sizes) for name, sizes in self._expected.items()}
        return run_session(self._session, {self._input: blobs}, expected, labels=LABELS)

    def _in_frame(self, outputs: Sequence[Any], frame: Pixels, ratio: float) -> Detections:
        with np.errstate(over="ignore", invalid="ignore"):  # a box that is not finite is none
            boxes, scores = self._found(outputs)
            usable = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            boxes, scores = boxes[usable], scores[usable]
            kept = surest(
                boxes,
                scores,
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
            )
        height, width = frame.shape[:2]
        limits = np.array([width, height, width, height], np.float32)
        in_frame = np.clip(boxes[kept] / np.float32(ratio), 0, limits)
        has_area = (in_frame[:, 2:] - in_frame[:, :2] >= 1).all(axis=1)
        people = slice(self.max_people)
        return Detections(in_frame[has_area][people], scores[kept][has_area][people])

    def __reduce__(self) -> tuple[Callable[[], OnnxDetector], tuple[()]]:
        opened_again = partial(
            type(self),
            self._path,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_people=self.max_people,
            class_id=self.class_id,
            **self._options,
        )
        return opened_again, ()


def takes_pictures(onnx_file: OnnxFile) -> bool:
    """Whether there is one input, (batch, 3, height, width)."""
    match [value.shape for value in onnx_file.inputs]:
        case [(_, channels, _, _)]:
            return channels == 3 or not isinstance(channels, int)
    return False


def not_of_form(expected: str, onnx_file: OnnxFile) -> OnnxFileError:
    """The error for a file that is no such detector."""
    inputs, outputs = (
        ", ".join(map(str, values)) for values in (onnx_file.inputs, onnx_file.outputs)
    )
    return OnnxFileError(f"expected {expected}; found the inputs {inputs} and outputs {outputs}")
