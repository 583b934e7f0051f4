"""From a frame to poses in one graph: files that `cigpose-tools pack` made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.errors import InputError, error_context
from cigpose_runtime.estimation.pose_model import MAX_BATCH, check_overlap
from cigpose_runtime.estimation.preprocess import boxes_to_crops, check_frame
from cigpose_runtime.estimation.session import CPU, SessionOptions, open_session, run_session
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.model_file.frame_contract import FrameContract, frame_contract_of
from cigpose_runtime.model_file.onnx_graph import read_onnx_file
from cigpose_runtime.poses import Poses


class FrameModel:
    """A packed file, called as a PoseModel; with a detector inside, with a frame alone.

    providers, threads, spinning and pickling are as in PoseModel.
    Raises FileError, OnnxFileError, MetadataError and ProviderError, each naming the file.
    """

    contract: FrameContract
    keypoint_set: KeypointSet

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        onnx_file = read_onnx_file(path)
        with error_context(path):
            self.contract = frame_contract_of(onnx_file)
        self.keypoint_set = self.contract.model.keypoints
        self._path = Path(path).absolute()
        self._options = SessionOptions(
            providers=tuple(providers), threads=threads, spinning=spinning
        )
        self._session = open_session(path, **self._options)
        frame, boxes = (*onnx_file.inputs, None)[:2]
        self._frame_shape = frame.shape if frame else None
        people = boxes.shape[0] if boxes and boxes.shape else None
        self._fixed_people = people if isinstance(people, int) else None

    def __reduce__(self) -> tuple[Callable[[], FrameModel], tuple[()]]:
        return partial(FrameModel, self._path, **self._options), ()

    @property
    def fixed_frame_shape(self) -> tuple[int, ...] | None:
        """The frame (height, width, 3) that a file of fixed size takes, None for any."""
        return tuple(size for size in self._frame_shape or () if isinstance(size, int)) or None

    @property
    def finds_people(self) -> bool:
        """Whether a detector is inside, which takes the place of boxes."""
        return self.contract.detector is not None

    def __call__(
        self,
        frame: Pixels,
        boxes_xyxy: ArrayLike | None = None,
        *,
        box_scores: ArrayLike | None = None,
    ) -> Poses:
        """The poses of the people in these boxes, in their order; or of those that it finds.

        frame: (H, W, 3) uint8 BGR, whatever the file's own order. boxes_xyxy and box_scores: as
        PoseModel's, both None where a detector is inside.
        Raises InputError as PoseModel does, for another size than a file of fixed size takes, and
        for boxes too many or too few.
        """
        if self.finds_people == (boxes_xyxy is not None):
            expected, found = ("no boxes", "some") if self.finds_people else ("boxes", "none")
            raise InputError(
                f"boxes: expected {expected} for {self.contract.name}, found {found}; "
                "a file finds the people itself where a detector is packed into it"
            )
        check_frame(frame)
        fed = self._as_fed(frame)
        if boxes_xyxy is None:
            shapes = {"boxes": (None, 4), "box_scores": (None,), **self._poses(None)}
            boxes, sure, keypoints, scores = run_session(self._session, {"frame": fed}, shapes)
            return Poses(
                keypoints=keypoints,
                scores=scores,
                boxes_xyxy=boxes,
                keypoint_set=self.keypoint_set,
                box_scores=sure,
            )
        model = self.contract.model
        boxes_to_crops(boxes_xyxy, (model.input_w, model.input_h))  # says what is wrong with them
        boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        if not len(boxes):
            return Poses.none(self.keypoint_set)
        check_overlap(boxes, frame)
        people = self._fixed_people or MAX_BATCH // (1 + self.contract.flip_test)
        parts = [
            self._estimate(fed, boxes[start : start + people])
            for start in range(0, len(boxes), people)
        ]
        keypoints, scores = (np.concatenate(some) for some in zip(*parts, strict=True))
        return Poses(
            keypoints=keypoints,
            scores=scores,
            boxes_xyxy=boxes,
            keypoint_set=self.keypoint_set,
            box_scores=None if box_scores is None else np.asarray(box_scores, np.float32),
        )

    def _as_fed(self, frame: Pixels) -> Pixels:
        fixed = self.fixed_frame_shape
        if fixed is not None and fixed != frame.shape:
            raise InputError(
                f"frame: expected {fixed} for a file of fixed size, found {frame.shape}; "
                "scale the frame, or pack the model without --static"
            )
        is_bgr = self.contract.frame_color_order == "bgr"
        return np.ascontiguousarray(frame if is_bgr else frame[:, :, ::-1])

    def _estimate(self, fed: Pixels, boxes: Floats) -> tuple[Floats, Floats]:
        count = len(boxes)
        if self._fixed_people is not None:
            empty = np.zeros((self._fixed_people - count, 4), np.float32)
            boxes = np.concatenate([boxes, empty])
        feed: dict[str, NDArray[Any]] = {"frame": fed, "boxes": boxes}
        keypoints, scores = run_session(self._session, feed, self._poses(len(boxes)))
        return keypoints[:count], scores[:count]

    def _poses(self, people: int | None) -> dict[str, tuple[int | None, ...]]:
        """The shapes of the last two outputs, by name."""
        k = len(self.keypoint_set.names)
        return {"keypoints": (people, k, 2), "scores": (people, k)}
