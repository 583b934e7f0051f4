"""Packed files beside the runtime, bit for bit, on whatever onnxruntime there is.

`python tests/support/packed_campaign.py FOLDER [BOXES]` takes what `write_models` left there. It
needs numpy, onnxruntime and runtime/ on the path alone, so that it runs with any version of them.
"""

import sys
from pathlib import Path

import numpy as np

from cigpose_runtime import PoseModel
from cigpose_runtime.estimation.session import open_session

SIZES_WH = ((192, 256), (288, 384), (6, 8))
FRAMES_HW = ((1080, 1920), (5, 37), (333, 200), (1, 1), (2160, 3840))
BOXES = 2000
PEOPLE = (8, 1, 8, 5)
"""In a call: as many as the runtime puts into one batch, with the flip test too, or fewer."""


def noise(rng, height, width, channels=3):
    return rng.integers(0, 256, (height, width, channels), np.uint8)


def boxes_around(rng, frame, count, scale=None):
    """Boxes (count, 4) that overlap the frame; scale: of their sides, in pixels."""
    frame_wh = np.array(frame.shape[1::-1])
    centers = rng.random((count, 2)) * frame_wh
    sides = np.maximum(rng.random((count, 2)) * (frame_wh if scale is None else scale), 0.02)
    return np.hstack([centers - sides / 2, centers + sides / 2]).clip(-1e5, 1e5).astype(np.float32)


def write_models(folder):
    """Leaves a model of each size, NAME.onnx, and what it is packed into, without and with flip."""
    from packing import packed, save

    for width, height in SIZES_WH:
        model = save(folder, name=f"pixels_{width}x{height}", input_size_wh=(width, height))
        (folder / f"{model.stem}_frame.onnx").write_bytes(packed(model))
        (folder / f"{model.stem}_flip.onnx").write_bytes(packed(model, flip_test=True))


def unequal_people(folder, boxes_per_frame=BOXES):
    """By packed file: its name, of how many people any keypoint or score differs, of how many."""
    for path in sorted(folder.glob("*_*_f*.onnx")):
        plain, _, kind = path.stem.rpartition("_")
        model = PoseModel(folder / f"{plain}.onnx", flip=kind == "flip", threads=1)
        session = open_session(path, threads=1)
        rng, different, count = np.random.default_rng(0), 0, 0
        for hw in FRAMES_HW:
            frame = noise(rng, *hw)
            rgb = np.ascontiguousarray(frame[..., ::-1])
            for boxes in _batches(rng, frame, boxes_per_frame):
                keypoints, scores = session.run(None, {"frame": rgb, "boxes": boxes})
                expected = model(frame, boxes)
                is_other = (keypoints != expected.keypoints).any(axis=(1, 2))
                is_other |= (scores != expected.scores).any(axis=1)
                different, count = different + int(is_other.sum()), count + len(boxes)
        yield path.stem, different, count


def _batches(rng, frame, count):
    """Boxes of the frame's size, and of a tenth of a pixel to 100,000 px; some on whole pixels."""
    turn = 0
    while count:
        people = min(PEOPLE[turn % len(PEOPLE)], count)
        scale = None if turn % 4 else 10.0 ** rng.uniform(-1, 5, (people, 1))
        boxes = boxes_around(rng, frame, people, scale)
        if turn % 5 == 0:  # where rounding noise decides
            low, high = np.rint(boxes[:, :2]), np.rint(boxes[:, 2:])
            low = np.minimum(low, np.array(frame.shape[1::-1]) - 1)
            boxes = np.hstack([low, np.maximum(high, np.maximum(low, 0) + 1)]).astype(np.float32)
        yield boxes
        turn, count = turn + 1, count - people


if __name__ == "__main__":
    where, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else BOXES
    from cigpose_runtime.estimation.ort import ort

    for name, different, count in unequal_people(where, most):
        of_all = f"{different} of {count} people differ"
        print(f"onnxruntime {ort.__version__}, {name}: {of_all}", flush=True)
