"""From a frame and boxes to poses: the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import InputError, error_context
from cigpose_runtime.estimation.decode import average_flipped, decode_simcc, to_frame
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.estimation.session import CPU, SessionOptions, open_session, run_session
from cigpose_runtime.keypoints import KeypointSet
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.model_file.onnx_graph import read_onnx_file
from cigpose_runtime.model_file.reader import contract_of
from cigpose_runtime.poses import Poses

MAX_BATCH = 16
"""Crops that run at once; more of them run no faster (make bench) and take more memory."""


class PoseModel:
    """A CIGPose model, called with a frame and the boxes of the people in it.

    All that running it takes is read from the file at `path`, those of the published client
    (`cigpose_meta` with little in it) too. override: a contract in place of the file's metadata.
    providers: onnxruntime's execution providers, none of which is silently left out. threads: for
    one operator, onnxruntime's choice if None. spinning: False where other threads want the cores
    while the model runs; between runs its threads sleep in any case. max_batch: crops that run at
    once, which bounds memory. flip: run the mirror image of each crop too and average, as MMPose's
    flip test does; twice the time, and what published AP is measured with.
    One may be called by several threads at once. Pickled, it is its path and these options: where
    it arrives, as in another process, the file is opened anew.
    Raises FileError, OnnxFileError, MetadataError and ProviderError, each naming the file.

    >>> model = PoseModel("model.onnx")
    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> poses = model(frame, [[100, 40, 300, 460], [350, 60, 520, 470]])
    >>> poses.keypoints.shape, poses.scores.shape
    ((2, 17, 2), (2, 17))
    """

    contract: Contract
    keypoint_set: KeypointSet

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        override: Contract | None = None,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        spinning: bool = True,
        max_batch: int = MAX_BATCH,
        flip: bool = False,
    ) -> None:
        if max_batch < 1 + flip:
            raise InputError(
                f"max_batch: expected at least {1 + flip}, found {max_batch}; raise it"
            )
        onnx_file = read_onnx_file(path)
        with error_context(path):
            self.contract = contract_of(onnx_file, override=override)
        self.keypoint_set = self.contract.keypoints
        self.flip = flip
        self._path = Path(path).absolute()
        self._override = override
        self._options = SessionOptions(
            providers=tuple(providers), threads=threads, spinning=spinning
        )
        self._session = open_session(path, **self._options)
        batch = (onnx_file.inputs[0].shape or (None,))[0]
        self._fixed_batch = batch if isinstance(batch, int) else None
        self._max_batch = max_batch

    def __call__(
        self,
        frame: NDArray[np.uint8],
        boxes_xyxy: ArrayLike,
        *,
        box_scores: ArrayLike | None = None,
    ) -> Poses:
        """The poses of the people in these boxes, in their order.

        frame: (H, W, 3) uint8 BGR. boxes_xyxy: (N, 4) left, top, right, bottom in frame pixels,
        partly outside the frame if need be. box_scores: (N,), handed through.
        Raises InputError for another frame, and for boxes of another shape, without area, not
        finite or wholly outside the frame; OnnxFileError when the model does not run, or not to the
        outputs that its contract says.
        """
        contract = self.contract
        input_wh = contract.input_w, contract.input_h
        centers, scales = boxes_to_crops(boxes_xyxy, input_wh, contract.box_padding)
        boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
        people = self.crops_at_once
        keypoints, scores = [], []
        for start in range(0, len(boxes), people):
            part = slice(start, start + people)
            crops = make_input(frame, centers[part], scales[part], contract)
            if start == 0:  # make_input has looked at the frame
                check_overlap(boxes, frame)
            in_crop, found = decode_simcc(*self.simcc(crops), contract.split_ratio)
            keypoints.append(to_frame(in_crop, centers[part], scales[part], input_wh))
            scores.append(found)
        if not keypoints:
            return Poses.none(self.keypoint_set)
        return Poses(
            keypoints=np.concatenate(keypoints),
            scores=np.concatenate(scores),
            boxes_xyxy=boxes,
            keypoint_set=self.keypoint_set,
            box_scores=None if box_scores is None else np.asarray(box_scores, np.float32),
        )

    def __reduce__(self) -> tuple[Callable[[], PoseModel], tuple[()]]:
        opened_again = partial(
            PoseModel,
            self._path,
            override=self._override,
            max_batch=self._max_batch,
            flip=self.flip,
            **self._options,
        )
        return opened_again, ()

    @property
    def crops_at_once(self) -> int:
        """How many crops `simcc` runs at best: all that max_batch or the file allow."""
        return self._fixed_batch or self._max_batch // (1 + self.flip)

    def simcc(self, crops: Floats) -> tuple[Floats, Floats]:
        """The SimCC vectors of crops (n, 3, h, w) that `make_input` made, all at once.

        Returns `simcc_x` (n, K, W) and `simcc_y` (n, K, H), averaged over the flip test if asked
        for.
        """
        if not self.flip:
            return self._run_batch(crops)
        mirrored = np.ascontiguousarray(crops[..., ::-1])
        if self._fixed_batch:
            straight, flipped = self._run_batch(crops), self._run_batch(mirrored)
        else:
            x, y = self._run_batch(np.concatenate([crops, mirrored]))
            (x, x_flipped), (y, y_flipped) = np.split(x, 2), np.split(y, 2)
            straight, flipped = (x, y), (x_flipped, y_flipped)
        return average_flipped(straight, flipped, self.keypoint_set.flip_indices)

    def _run_batch(self, crops: Floats) -> tuple[Floats, Floats]:
        count = len(crops)
        if self._fixed_batch and count < self._fixed_batch:
            empty = np.zeros((self._fixed_batch - count, *crops.shape[1:]), np.float32)
            crops = np.concatenate([crops, empty])
        contract = self.contract
        expected = {
            name: (len(crops), contract.num_keypoints, int(side * contract.split_ratio))
            for name, side in (("simcc_x", contract.input_w), ("simcc_y", contract.input_h))
        }
        simcc_x, simcc_y = run_session(self._session, {"input": crops}, expected)
        return simcc_x[:count], simcc_y[:count]


def check_overlap(boxes: Floats, frame: NDArray[np.uint8]) -> None:
    """Raises InputError for a box, of (N, 4) xyxy, that lies wholly outside the frame."""
    height, width = frame.shape[:2]
    left, top, right, bottom = boxes.T
    outside = (right <= 0) | (bottom <= 0) | (left >= width) | (top >= height)
    if outside.any():
        index = int(outside.argmax())
        raise InputError(
            f"boxes[{index}]: expected a box that overlaps the frame of {width} x {height} px, "
            f"found {boxes[index].tolist()}; drop such boxes"
        )
