"""The verdict on a packed file: bit for bit what the runtime makes of the same frames.

The runtime takes the model's own file, whose verdict by PyTorch is another one; here a packed file
has to add nothing to it and take nothing away. Where MMPose is at hand, its pipeline and model have
to give the same keypoints, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cigpose_runtime import parse_onnx
from cigpose_runtime.arrays import Floats, Pixels
from cigpose_runtime.estimation.detector import Detections
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.yolox import YoloxDetector
from cigpose_runtime.files import file_sha256
from cigpose_runtime.media.images import read_image
from cigpose_runtime.model_file.frame_contract import FrameContract, frame_contract_of
from cigpose_verify.cases import PHOTOGRAPHS
from cigpose_verify.errors import RunError
from cigpose_verify.packed.pipeline import BesideMMPose, MMPose
from cigpose_verify.packed.subject import Subject
from cigpose_verify.report.document import Failure, Report
from cigpose_verify.stages.structure import check_structure
from cigpose_verify.summary import report_on

BOX_TOLERANCE = 5e-4
"""Pixels between boxes of a detector that returns no boxes but cells: numpy's and onnxruntime's
exponentials differ in their last bits. Measured: up to 2.4e-4 px on frames of up to 4K."""

PEOPLE = (1, 3, 8)
"""Boxes at a time; of more, the runtime makes several batches, whose last bits are others."""

NO_BOXES = np.array(
    [
        [np.nan, 0, 9, 9],
        [0, 0, np.inf, 9],
        [9, 0, 1, 9],
        [3, 4, 3, 9],
        [-9, 2, -3, 9],
        [2, 1e6, 9, 2e6],
    ],
    np.float32,
)
"""NaN, infinite, inverted, without width, beside the frame, far below it."""


@dataclass(frozen=True)
class Campaign:
    """What a packed file is tried on: BGR frames by name, and batches of boxes on each.

    shows_people: whether a detector that finds nobody in any frame is no detector of people.
    """

    frames: dict[str, Pixels]
    batches: Sequence[int]
    shows_people: bool

    @classmethod
    def full(cls) -> Campaign:
        """The photographs, and noise in sizes that are all edge."""
        rng = np.random.default_rng(0)
        frames = {path.name: read_image(path) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))}
        for height, width in ((5, 37), (270, 481)):
            noise = rng.integers(0, 256, (height, width, 3), np.uint8)
            frames[f"noise {width} x {height}"] = noise
        return cls(frames, PEOPLE, shows_people=True)

    @classmethod
    def brief(cls) -> Campaign:
        """For the check right after packing."""
        noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
        return cls({"noise 160 x 90": noise}, (2,), shows_people=False)


def judge_packed(
    name: str,
    data: bytes,
    model: Path,
    detector: Path | None,
    campaign: Campaign,
    *,
    mmpose: MMPose | None = None,
    key: str = "",
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> Report:
    """Judges the bytes of a packed file by the files that it was packed from.

    name: of the file. mmpose: of the same weights and flip test. key: kept in the report. Raises
    `CigposeError` when the bytes are no packed file at all, or one of the others is no model.
    """
    started = time.monotonic()
    described = parse_onnx(data)
    contract = frame_contract_of(described)
    on_stage("structure")
    failures = [
        Failure("structure", problem)
        for problem in check_structure(data, described, most_nodes=None)
    ]
    failures += [Failure("contract", p) for p in _contract_problems(contract, model, detector)]
    notes = []
    if not failures:
        on_stage("frame")
        trial = _Trial(Subject.of(data, model, detector))
        try:
            failures = [Failure("frame", problem) for problem in trial.problems(campaign)]
            if not failures and mmpose is not None:
                on_stage("pipeline")
                beside = BesideMMPose(trial.subject, mmpose)
                rng, frames = np.random.default_rng(1), trial.fitted(campaign)
                problems = beside.problems(frames, partial(random_boxes, rng))
                failures = [Failure("pipeline", problem) for problem in problems]
                notes = [beside.note]
        except RunError as error:
            failures = [Failure("frame", str(error))]
    if mmpose is None:
        reduced = contract.model.precision != "fp32"
        why = "in reduced precision" if reduced else "no checkpoint of it is here"
        notes = [f"compared with the runtime, not with MMPose's pipeline: {why}"]
    return report_on(
        name,
        data,
        failures,
        started=started,
        key=key,
        model=contract.name,
        weights=contract.model.weights,
        origin=_origin(contract, mmpose),
        notes=tuple(notes),
    )


def _origin(contract: FrameContract, mmpose: MMPose | None) -> dict[str, str]:
    """What a file was compared with."""
    packed = {"compared with": "cigpose-runtime", "packed model": contract.packed_sha256}
    if mmpose is None:
        return packed
    return {
        **packed,
        "compared with": "cigpose-runtime and MMPose's pipeline",
        "reference_head": mmpose.head,
        "checkpoint_sha256": mmpose.checkpoint_sha256,
    }


def _contract_problems(found: FrameContract, model: Path, detector: Path | None) -> Iterator[str]:
    """What a packed file says that is not so of the files that it was packed from."""
    if found.packed_sha256 != file_sha256(model):
        yield f"packed_sha256: expected that of {model.name}, found {found.packed_sha256}"
    elif found.model != PoseModel(model).contract:
        yield f"model: expected the metadata of {model.name}, found others"
    if found.detector is not None and detector is not None:
        yolox = YoloxDetector(detector)
        if found.detector.sha256 != file_sha256(detector):
            yield f"detector.sha256: expected that of {detector.name}, found another"
        if (found.detector.input_w, found.detector.input_h) != yolox.input_wh:
            yield f"detector: expected an input of {yolox.input_wh}, found another size"


@dataclass(frozen=True)
class _Trial:
    """A packed file beside what it was packed from."""

    subject: Subject

    def fitted(self, campaign: Campaign) -> dict[str, Pixels]:
        """The campaign's frames in the size that the file takes."""
        return {name: self.subject.fitted(frame) for name, frame in campaign.frames.items()}

    def problems(self, campaign: Campaign) -> Iterator[str]:
        frames = self.fitted(campaign)
        if self.subject.yolox is not None:
            people = yield from self._detected(frames, self.subject.yolox)
            if campaign.shows_people and not people:
                yield "found nobody in any frame, so agreement says nothing; pack another detector"
            return
        rng, fixed = np.random.default_rng(0), self.subject.fixed_people
        for name, frame in frames.items():
            for people in campaign.batches if fixed is None else (fixed,):
                boxes = random_boxes(rng, frame, people)
                yield from self._unequal(f"{name}, {people} people", frame, boxes)
        name, frame = next(iter(frames.items()))
        yield from self._bad_boxes(name, frame, random_boxes(rng, frame, 1))
        if self.subject.fixed_hw is None:
            opaque = np.full((*frame.shape[:2], 1), 255, np.uint8)
            boxes = random_boxes(rng, frame, 2)
            yield from self._unequal(
                f"{name} with alpha", np.concatenate([frame, opaque], axis=2), boxes
            )
            yield from self._nobody(name, frame)

    def _unequal(self, where: str, frame: Pixels, boxes: Floats) -> Iterator[str]:
        keypoints, scores = self.subject.run(frame, boxes)
        yield from self._other_poses(where, frame, boxes, keypoints, scores)

    def _other_poses(
        self, where: str, frame: Pixels, boxes: Floats, keypoints: Floats, scores: Floats
    ) -> Iterator[str]:
        expected = self.subject.model(np.ascontiguousarray(frame[:, :, :3]), boxes)
        for what, wanted, found in (
            ("keypoints", expected.keypoints, keypoints),
            ("scores", expected.scores, scores),
        ):
            if wanted.shape != found.shape:
                yield f"{where}: expected {what} of shape {wanted.shape}, found {found.shape}"
            elif not np.array_equal(wanted, found):
                off = ~(wanted == found)
                yield (
                    f"{where}: {int(off.sum())} of {off.size} {what} differ from the runtime's, "
                    f"by up to {float(np.abs(wanted - found).max()):.3g}"
                )

    def _bad_boxes(self, name: str, frame: Pixels, sound: Floats) -> Iterator[str]:
        """Boxes that are none get score 0, and the one beside them its own pose."""
        for bad in NO_BOXES:
            count = self.subject.fixed_people or 2
            boxes = np.concatenate([sound, np.repeat(bad[None], count - 1, axis=0)])
            keypoints, scores = self.subject.run(frame, boxes)
            if scores[1:].any() or not np.isfinite(keypoints).all():
                yield f"{name}: expected score 0 for the box {bad.tolist()}, found others"
            if not scores[0].any():
                yield f"{name}: expected a pose beside the box {bad.tolist()}, found none"

    def _nobody(self, name: str, frame: Pixels) -> Iterator[str]:
        found = [array.shape for array in self.subject.run(frame, np.zeros((0, 4), np.float32))]
        k = self.subject.contract.model.num_keypoints
        if found != [(0, k, 2), (0, k)]:
            yield f"{name} without people: expected empty outputs for {k} keypoints, found {found}"

    def _detected(
        self, frames: dict[str, Pixels], yolox: YoloxDetector
    ) -> Generator[str, None, int]:
        """The people that the runtime finds; their poses are held to the boxes found here.

        Returns how many there were.
        """
        assert self.subject.contract.detector is not None
        seen = 0
        for name, frame in frames.items():
            expected = yolox(frame)
            most = self.subject.contract.detector.max_people
            expected = Detections(expected.boxes_xyxy[:most], expected.scores[:most])
            boxes, box_scores, keypoints, scores = self.subject.run(frame, None)
            seen += len(boxes)
            if len(boxes) != len(expected):
                yield f"{name}: expected {len(expected)} people, found {len(boxes)}"
                continue
            tolerance = 0 if yolox.is_decoded else BOX_TOLERANCE
            off = np.abs(boxes - expected.boxes_xyxy).max(initial=0)
            if not off <= tolerance or not np.array_equal(box_scores, expected.scores):
                yield f"{name}: expected the runtime's boxes and their scores, found others"
            yield from self._other_poses(name, frame, boxes, keypoints, scores)
        return seen


def random_boxes(rng: np.random.Generator, frame: Pixels, count: int) -> Floats:
    """Boxes (count, 4) of a pixel to twice the frame that all overlap it, some on whole pixels."""
    frame_wh = np.array(frame.shape[1::-1])
    centers = rng.random((count, 2)) * frame_wh
    halves = np.maximum(np.exp(rng.uniform(-3, 0, (count, 2))) * frame_wh, 1)
    boxes = np.hstack([centers - halves, centers + halves])
    is_whole = rng.random((count, 1)) < 0.5
    return np.where(is_whole, np.rint(boxes), boxes).astype(np.float32)
