"""What only shows after a while."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cigpose_runtime import FixedBoxesDetector, PoseModel, PosePipeline, Tracker
from tiny_onnx import tiny_model


def resident_bytes():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_10_000_frames(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model(num_keypoints=133, input_size_wh=(48, 64)).SerializeToString())
    boxes = [[10, 10, 90, 180], [150, 20, 240, 190]]
    pipeline = PosePipeline(FixedBoxesDetector(boxes), PoseModel(path, threads=1), Tracker())
    frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    early = None
    for number in range(10_000):
        assert len(pipeline(frame)) == 2
        if number == 1_000:
            early = resident_bytes()
    assert resident_bytes() < early * 1.05
