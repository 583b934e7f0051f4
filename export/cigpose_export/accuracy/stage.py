"""`cigpose-tools accuracy`: the runtime on an annotated data set, beside what was published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cigpose_export import __version__
from cigpose_export.accuracy.annotations import Picture, Selection, read_pictures
from cigpose_export.accuracy.estimate import Estimator, estimate
from cigpose_export.accuracy.evaluate import (
    Estimate,
    evaluate,
    published_figures,
    write_results,
)
from cigpose_export.accuracy.labelled import label_pictures
from cigpose_export.accuracy.protocols import protocol_of
from cigpose_export.errors import UsageError
from cigpose_export.project import Model, Project
from cigpose_runtime import Contract, read_contract
from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.files import appears_whole, file_sha256, require_apart
from cigpose_runtime.labelling.cluster import Cluster
from cigpose_runtime.model_file.frame_contract import FrameContract, read_packed

JSON_SCHEMA_VERSION = 1

Side = Literal["runtime", "pytorch"]
_OUTPUTS = (
    "accuracy.json",
    "pytorch.journal.jsonl",
    *(f"{side}.results.json" for side in get_args(Side)),
)

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Of a title and a number of pictures: a context that is told how many more are done."""


@dataclass(frozen=True)
class Accuracy:
    """What was measured, and how.

    boxes: "annotated" or the detected ones' file name. selection: which of these count, None for
    all. figures: by side, 0 to 1, by name.
    keypoint_difference: the mean distance in frame pixels between the sides, if there are two.
    """

    model: str
    sha256: str
    protocol: str
    boxes: str
    selection: Selection | None
    flip: bool
    pictures: int
    people: int
    figures: dict[Side, dict[str, float]]
    published: dict[str, float]
    keypoint_difference: float | None


def measure_accuracy(
    project: Project,
    path: Path,
    *,
    annotations: Path,
    images: Path,
    boxes: Path | None,
    selection: Selection | None = None,
    flip: bool,
    pytorch: bool,
    config: str | None = None,
    checkpoint: Path | None = None,
    workers: int | None = None,
    cluster: Cluster | None = None,
    out: Path,
    progress: Progress,
) -> Accuracy:
    """Estimates, writes `out`/SIDE.results.json and `out`/accuracy.json, and evaluates.

    config, checkpoint: of PyTorch's side, for a model that is no published variant, as of
    `Project.own_model`. workers, cluster: of the runtime's side, as of `job.run_by`. What an
    interrupted run has estimated is in `out` and is not estimated again. Raises CigposeError for
    bad input, and for a checkpoint that is missing if `pytorch` asks for one.
    """
    inputs = {"the model": path, "--annotations": annotations, "--boxes": boxes}
    require_apart(
        [("results", out / name) for name in _OUTPUTS],
        [(what, given) for what, given in inputs.items() if given],
    )
    packed = read_packed(path)
    contract = read_contract(path) if packed is None else packed.model
    if packed is not None:
        _require_measurable(path, packed, flip)
        flip = packed.flip_test
    protocol = protocol_of(contract)
    pictures = read_pictures(annotations, images, boxes, protocol, selection)
    out.mkdir(parents=True, exist_ok=True)
    poses: dict[Side, list[Floats]] = {}
    with progress("runtime", len(pictures)) as on_done:
        poses["runtime"] = label_pictures(
            path,
            pictures,
            out / "runtime.labels",
            contract=contract,
            flip=flip,
            workers=workers,
            cluster=cluster,
            on_done=on_done,
        )
    if pytorch:
        weights, estimator = _pytorch_side(
            project, contract, config_name=config, checkpoint_path=checkpoint, flip=flip
        )
        key = {
            "schema_version": JSON_SCHEMA_VERSION,
            "annotations": file_sha256(annotations),
            "boxes": file_sha256(boxes) if boxes else None,
            "selection": asdict(selection) if selection else None,
            "flip": flip,
            "version": __version__,
            "weights": weights,
        }
        with progress("pytorch", len(pictures)) as on_done:
            journal = out / "pytorch.journal.jsonl"
            poses["pytorch"] = estimate(pictures, estimator, journal, key, on_done)
    figures: dict[Side, dict[str, float]] = {}
    for side, found_there in poses.items():
        results = out / f"{side}.results.json"
        estimates = list(_estimates(pictures, found_there, contract))
        write_results(results, estimates, protocol, contract.oks_sigmas)
        figures[side] = evaluate(annotations, results, protocol, contract.oks_sigmas)
    found = Accuracy(
        model=str(packed.name if packed else contract.artefact_name or path.name),
        sha256=file_sha256(path),
        protocol=protocol.name,
        boxes=boxes.name if boxes else "annotated",
        selection=selection,
        flip=flip,
        pictures=len(pictures),
        people=sum(len(picture.people) for picture in pictures),
        figures=figures,
        published={
            name: value
            for name, _, value in published_figures(
                figures["runtime"], _published(project, contract), protocol
            )
            if value is not None
        },
        keypoint_difference=_mean_distance(poses) if pytorch else None,
    )
    with appears_whole(out / "accuracy.json") as file:
        document = {"schema_version": JSON_SCHEMA_VERSION, **asdict(found)}
        file.write(json.dumps(document, indent=1).encode())
    return found


def _require_measurable(path: Path, packed: FrameContract, flip: bool) -> None:
    if flip:
        raise UsageError(
            f"--flip: expected a model that is not packed, found {path}, which has it inside or "
            "not; leave the option out, or pack the model again"
        )
    if packed.detector is not None:
        raise UsageError(
            f"{path}: expected a model that takes boxes, found one that finds the people itself; "
            "pack it without --detector, and give that detector's boxes as --boxes"
        )


def _pytorch_side(
    project: Project,
    contract: Contract,
    *,
    config_name: str | None,
    checkpoint_path: Path | None,
    flip: bool,
) -> tuple[str, Estimator]:
    from cigpose_export.reference.load import load_reference
    from cigpose_export.reference.mmpose_pipeline import MMPosePipeline

    if contract.name is None or contract.weights is None:
        raise UsageError("--pytorch: expected a file that names its variant; export it with ours")
    model: Model
    if config_name is None:
        (model,) = project.select([contract.name])
    else:
        model = project.own_model(config_name, contract.name, None)
    path = checkpoint_path or project.existing_checkpoint(contract.name, contract.weights)
    reference = load_reference(project, model, path)
    return reference.checkpoint.sha256, MMPosePipeline(reference, contract.keypoints, flip=flip)


def _published(project: Project, contract: Contract) -> dict[str, float]:
    variant = project.variants.get(str(contract.name))
    return dict(variant.published) if variant and contract.weights == "real" else {}


def _estimates(
    pictures: Sequence[Picture], poses: Sequence[Floats], contract: Contract
) -> Iterator[Estimate]:
    """With four decimals, as PyTorch's journal has them, so that both sides are rounded alike."""
    input_wh = contract.input_w, contract.input_h
    for picture, found in zip(pictures, poses, strict=True):
        rounded = np.round(found.astype(np.float64), 4).astype(np.float32)
        boxes = np.array([person.box_xyxy for person in picture.people], np.float32)
        _, scales = boxes_to_crops(boxes, input_wh, contract.box_padding)
        for person, area, pose in zip(picture.people, scales.prod(axis=1), rounded, strict=True):
            yield Estimate(
                picture.image_id, person.number, person.box_xyxy, person.score, float(area), pose
            )


def _mean_distance(poses: Mapping[Side, Sequence[Floats]]) -> float:
    ours, theirs = (np.concatenate(poses[side])[..., :2] for side in ("runtime", "pytorch"))
    return float(np.linalg.norm(ours - theirs, axis=-1).mean())
