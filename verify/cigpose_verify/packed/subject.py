"""A packed file that runs, beside the files that it was packed from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime import parse_onnx
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.session import open_session
from cigpose_runtime.estimation.yolox import YoloxDetector
from cigpose_runtime.model_file.frame_contract import FrameContract, frame_contract_of
from cigpose_verify.matrix import run


@dataclass(frozen=True)
class Subject:
    """The opened file, and the runtime on the model and the detector that are packed into it.

    fixed_hw, fixed_people: of a file of fixed size.
    """

    contract: FrameContract
    session: Any
    model: PoseModel
    yolox: YoloxDetector | None
    fixed_hw: tuple[int, int] | None
    fixed_people: int | None

    @classmethod
    def of(cls, data: bytes, model: Path, detector: Path | None) -> Subject:
        """Opens the bytes of a packed file, and what it was packed from."""
        described = parse_onnx(data)
        contract = frame_contract_of(described)
        yolox = None
        if contract.detector is not None and detector is not None:
            yolox = YoloxDetector(
                detector,
                score_threshold=contract.detector.score_threshold,
                nms_threshold=contract.detector.nms_threshold,
                class_id=contract.detector.class_id,
                spinning=False,
            )
        sizes = [size for value in described.inputs for size in value.shape or ()]
        fixed = [size for size in sizes if isinstance(size, int)]
        is_fixed = len(fixed) == len(sizes)
        return cls(
            contract=contract,
            session=open_session(data, spinning=False),
            model=PoseModel(model, spinning=False, flip=contract.flip_test),
            yolox=yolox,
            fixed_hw=(fixed[0], fixed[1]) if is_fixed else None,
            fixed_people=fixed[3] if is_fixed else None,
        )

    def feed(self, frame: Pixels, boxes: Floats | None) -> dict[str, NDArray[Any]]:
        """The file's inputs by name. frame: BGR or BGRA; boxes: None where a detector is inside."""
        order = [0, 1, 2] if self.contract.frame_color_order == "bgr" else [2, 1, 0]
        fed = np.ascontiguousarray(frame[:, :, [*order, 3][: frame.shape[2]]])
        return {"frame": fed} if boxes is None else {"frame": fed, "boxes": boxes}

    def run(self, frame: Pixels, boxes: Floats | None) -> list[NDArray[np.float32]]:
        """All outputs, the poses last. frame, boxes: as of `feed`. Raises RunError."""
        names = [output.name for output in self.session.get_outputs()]
        return run(self.session, names, self.feed(frame, boxes))

    def fitted(self, frame: Pixels) -> Pixels:
        """The frame, repeated or cut where the file takes one size alone."""
        if self.fixed_hw is None:
            return frame
        rows, columns = (
            np.arange(size) % there
            for size, there in zip(self.fixed_hw, frame.shape[:2], strict=True)
        )
        return np.ascontiguousarray(frame[rows[:, None], columns])
