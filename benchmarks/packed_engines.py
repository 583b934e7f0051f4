"""Packed files on other engines, beside onnxruntime's CPU provider: how far their keypoints are.

`python -m benchmarks.packed_engines ENGINE FILE_frame.onnx...`, where ENGINE is `reference` (onnx's
own, slow), `openvino` (if it is installed; float32 asked for), or the folder of an onnxruntime-web.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation.session import open_session
from cigpose_runtime.media.images import read_image
from cigpose_runtime.terminal import echo
from cigpose_verify.cases import PHOTOGRAPHS
from cigpose_verify.packed.judge import random_boxes

PEOPLE = 10
"""In each picture, in batches of two."""

NEAR_PX = 1e-3

Case = dict[str, NDArray[Any]]
"""A frame in RGB, and boxes."""

Engine = Callable[[Path, Sequence[Case]], Iterator[list[Floats]]]
"""Of a packed file and cases: the keypoints and scores of each."""


def cases() -> list[Case]:
    """The photographs and noise, with seeded boxes."""
    rng = np.random.default_rng(0)
    frames = [read_image(path) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    frames.append(rng.integers(0, 256, (270, 481, 3), np.uint8))
    return [
        {"frame": np.ascontiguousarray(frame[..., ::-1]), "boxes": random_boxes(rng, frame, 2)}
        for frame in frames
        for _ in range(PEOPLE // 2)
    ]


def on_onnxruntime(path: Path, some: Sequence[Case]) -> Iterator[list[Floats]]:
    """What the others are held to."""
    session = open_session(path, threads=1)
    return (session.run(["keypoints", "scores"], case) for case in some)


def on_reference(path: Path, some: Sequence[Case]) -> Iterator[list[Floats]]:
    """onnx.reference, an evaluator in numpy, with a GatherElements that takes long axes.

    That of onnx 1.23.2 is numpy.choose, which takes 64 values at most.
    """
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        op_domain = ""

        def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[Any]:
            return (np.take_along_axis(data, indices, axis),)

    evaluator: Any = ReferenceEvaluator(str(path), new_ops=[GatherElements])
    return (evaluator.run(["keypoints", "scores"], case) for case in some)


def on_openvino(path: Path, some: Sequence[Case]) -> Iterator[list[Floats]]:
    """OpenVINO's CPU plugin, kept from lowering precision by itself."""
    openvino = import_module("openvino")
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for case in some:
        found = model(case)
        yield [found["keypoints"].copy(), found["scores"].copy()]


def on_wasm(engine: Path, path: Path, some: Sequence[Case]) -> Iterator[list[Floats]]:
    """onnxruntime-web in Node, one thread. engine: its folder."""
    with tempfile.TemporaryDirectory(prefix="cigpose-bench-") as folder:
        there = Path(folder)
        (there / "packed.onnx").symlink_to(path.absolute())
        sizes = [[*case["frame"].shape[:2], len(case["boxes"])] for case in some]
        (there / "sizes.json").write_text(json.dumps(sizes), "utf-8")
        for number, case in enumerate(some):
            for name, array in case.items():
                (there / f"{name}_{number}.bin").write_bytes(array.tobytes())
        script = Path(__file__).with_name("packed_wasm.mjs")
        subprocess.run(["node", script, engine.absolute(), there], check=True)
        for number, case in enumerate(some):
            people = len(case["boxes"])
            keypoints, scores = (
                np.fromfile(there / f"{name}_{number}.bin", np.float32).reshape(people, -1)
                for name in ("keypoints", "scores")
            )
            yield [keypoints.reshape(people, -1, 2), scores]


def main(name: str, paths: Sequence[Path]) -> None:
    """Prints a line for each file."""
    engines: dict[str, Engine] = {"reference": on_reference, "openvino": on_openvino}
    for path in paths:
        some = cases()
        run = engines.get(name) or (lambda path, some: on_wasm(Path(name), path, some))
        both = zip(on_onnxruntime(path, some), run(path, some), strict=True)
        off_px, off_scores, equal = [], [], 0
        for (expected, expected_scores), (found, found_scores) in both:
            off_px.append(np.linalg.norm(found - expected, axis=-1).ravel())
            off_scores.append(np.abs(found_scores - expected_scores).ravel())
            equal += int((found == expected).all(axis=-1).sum())
        distances, errors = np.concatenate(off_px), np.concatenate(off_scores)
        echo(
            f"{path.stem} on {Path(name).name}: {distances.size} keypoints, "
            f"{equal / distances.size:.2%} equal, {(distances <= NEAR_PX).mean():.2%} within "
            f"{NEAR_PX} px, at most {distances.max():.3g} px; scores within {errors.max():.1e}"
        )


if __name__ == "__main__":
    main(sys.argv[1], [Path(name) for name in sys.argv[2:]])
