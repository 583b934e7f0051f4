"""Golden vectors of a packed file: frames and boxes, and the poses that it gave as the runtime did.

The form is that of `cigpose_verify.golden`, inputs and outputs in the order of the graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.releases.golden import largest_tolerance
from cigpose_runtime.releases.golden_frames import KEYPOINT_TOLERANCE
from cigpose_verify.golden import replaced, write_document, write_tensors
from cigpose_verify.measures.keypoints import Clarity
from cigpose_verify.packed.judge import Campaign
from cigpose_verify.packed.subject import Subject

BOXES = np.array([[0, 0, 1, 1], [0.1, 0.1, 0.6, 0.9], [0.3, -0.1, 1.1, 0.8]], np.float32)
"""As shares of the frame: all of it, a part, and beyond its edge."""

MOST_SETS = 2


def write_packed_golden(
    data: bytes, model: Path, detector: Path | None, campaign: Campaign, folder: Path
) -> None:
    """Writes sets on the campaign's first frames with people into `folder`, in place of others.

    data, model, detector, campaign: as of `judge_packed`, which has passed the file on them.
    """
    subject = Subject.of(data, model, detector)
    sets: list[dict[str, Any]] = []
    with replaced(folder) as made:
        for name, frame in campaign.frames.items():
            one = _write_set(made / f"test_data_set_{len(sets)}", name, frame, subject)
            sets += [one] if one else []
            if len(sets) == MOST_SETS:
                break
        write_document(made, subject.contract.name, hashlib.sha256(data).hexdigest(), sets)


def _write_set(folder: Path, name: str, frame: Pixels, subject: Subject) -> dict[str, Any] | None:
    """None, and nothing, where the detector inside finds nobody."""
    frame = subject.fitted(frame)
    boxes = None
    if subject.yolox is None:
        wanted = np.arange(subject.fixed_people or len(BOXES)) % len(BOXES)
        boxes = BOXES[wanted] * np.array([*frame.shape[1::-1]] * 2, np.float32)
    outputs = subject.run(frame, boxes)
    *found, keypoints, scores = outputs
    if not len(keypoints):
        return None
    names = [output.name for output in subject.session.get_outputs()]
    write_tensors(folder, subject.feed(frame, boxes), dict(zip(names, outputs, strict=True)))
    near = _near_ties(subject.model, frame, found[0] if boxes is None else boxes)
    precision = subject.contract.model.precision
    return {
        "folder": folder.name,
        "cases": [f"{name}, person {number}" for number in range(1, len(keypoints) + 1)],
        "tolerances": {
            "keypoints": KEYPOINT_TOLERANCE,
            "scores": largest_tolerance(scores, precision),
        },
        "keypoints": keypoints.tolist(),
        "near_ties": near.tolist(),
    }


def _near_ties(model: PoseModel, frame: Pixels, boxes: Floats) -> NDArray[np.bool_]:
    """Which keypoints (n, K) hang on rounding; in reduced precision, all but the clearer half."""
    contract = model.contract
    corners = boxes_to_crops(boxes, (contract.input_w, contract.input_h), contract.box_padding)
    near = []
    for center, scale in zip(*corners, strict=True):
        x, y = model.simcc(make_input(frame, center[None], scale[None], contract))
        clarity = Clarity.of(x[0], y[0])
        if contract.precision == "fp32":
            near.append(clarity.near_ties(max(map(largest_tolerance, (x, y)))))
        else:
            near.append(~clarity.clearer_half)
    return np.stack(near)
