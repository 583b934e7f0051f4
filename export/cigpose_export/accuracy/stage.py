"""`cigpose-tools accuracy`: the runtime on an annotated data set, beside what was published."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cigpose_export import __version__
from cigpose_export.accuracy.annotations import read_pictures
from cigpose_export.accuracy.estimate import Estimator, RuntimeEstimator, estimate
from cigpose_export.accuracy.evaluate import (
    Estimate,
    evaluate,
    published_figures,
    write_results,
)
from cigpose_export.accuracy.protocols import protocol_of
from cigpose_export.errors import UsageError
from cigpose_export.project import Model, Project
from cigpose_runtime import Contract, PoseModel
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.files import appears_whole, file_sha256, require_apart

JSON_SCHEMA_VERSION = 1

Side = Literal["runtime", "pytorch"]
_OUTPUTS = (
    "accuracy.json",
    *(f"{side}.{kind}" for side in get_args(Side) for kind in ("journal.jsonl", "results.json")),
)

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Of a title and a number of pictures: a context that is told how many more are done."""


@dataclass(frozen=True)
class Accuracy:
    """What was measured, and how.

    boxes: "annotated" or the detected ones' file name. figures: by side, 0 to 1, by name.
    keypoint_difference: the mean distance in frame pixels between the sides, if there are two.
    """

    model: str
    sha256: str
    protocol: str
    boxes: str
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
    flip: bool,
    pytorch: bool,
    config: str | None = None,
    checkpoint: Path | None = None,
    out: Path,
    progress: Progress,
) -> Accuracy:
    """Estimates, writes `out`/SIDE.results.json and `out`/accuracy.json, and evaluates.

    config, checkpoint: of PyTorch's side, for a model that is no published variant, as of
    `Project.own_model`. What an interrupted run has estimated is in `out` and is not estimated
    again. Raises CigposeError for bad input, and for a checkpoint that is missing if `pytorch`
    asks for one.
    """
    inputs = {"the model": path, "--annotations": annotations, "--boxes": boxes}
    require_apart(
        [("results", out / name) for name in _OUTPUTS],
        [(what, given) for what, given in inputs.items() if given],
    )
    model = PoseModel(path, flip=flip)
    contract = model.contract
    protocol = protocol_of(contract)
    pictures = read_pictures(annotations, images, boxes, protocol)
    out.mkdir(parents=True, exist_ok=True)
    sha256 = file_sha256(path)
    key: dict[str, Any] = {
        "schema_version": JSON_SCHEMA_VERSION,
        "annotations": file_sha256(annotations),
        "boxes": file_sha256(boxes) if boxes else None,
        "flip": flip,
        "version": __version__,
    }
    sides: dict[Side, tuple[str, Estimator]] = {"runtime": (sha256, RuntimeEstimator(model))}
    if pytorch:
        sides["pytorch"] = _pytorch_side(
            project, contract, config_name=config, checkpoint_path=checkpoint, flip=flip
        )
    figures: dict[Side, dict[str, float]] = {}
    estimates: dict[Side, list[Estimate]] = {}
    for side, (weights, estimator) in sides.items():
        with progress(side, len(pictures)) as on_done:
            estimates[side] = estimate(
                pictures,
                estimator,
                out / f"{side}.journal.jsonl",
                {**key, "weights": weights},
                lambda some: _areas(some, contract),
                on_done,
            )
        results = out / f"{side}.results.json"
        write_results(results, estimates[side], protocol, contract.oks_sigmas)
        figures[side] = evaluate(annotations, results, protocol, contract.oks_sigmas)
    found = Accuracy(
        model=str(contract.artefact_name or path.name),
        sha256=sha256,
        protocol=protocol.name,
        boxes=boxes.name if boxes else "annotated",
        flip=flip,
        pictures=len(pictures),
        people=len(estimates["runtime"]),
        figures=figures,
        published={
            name: value
            for name, _, value in published_figures(
                figures["runtime"], _published(project, contract), protocol
            )
            if value is not None
        },
        keypoint_difference=_mean_distance(estimates) if pytorch else None,
    )
    with appears_whole(out / "accuracy.json") as file:
        document = {"schema_version": JSON_SCHEMA_VERSION, **asdict(found)}
        file.write(json.dumps(document, indent=1).encode())
    return found


def _pytorch_side(
    project: Project,
    contract: Contract,
    *,
    config_name: str | None,
    checkpoint_path: Path | None,
    flip: bool,
) -> tuple[str, Estimator]:
    from cigpose_export.accuracy.pytorch import PyTorchEstimator
    from cigpose_export.checkpoints.load import load_checkpoint, load_weights
    from cigpose_export.modeling.build import build_reference, load_config

    if contract.name is None or contract.weights is None:
        raise UsageError("--pytorch: expected a file that names its variant; export it with ours")
    model: Model
    if config_name is None:
        (model,) = project.select([contract.name])
    else:
        model = project.own_model(config_name, contract.name, None)
    path = checkpoint_path or project.existing_checkpoint(contract.name, contract.weights)
    checkpoint = load_checkpoint(path)
    config = load_config(project.config_of(model))
    estimator = build_reference(config)
    load_weights(estimator, checkpoint)
    return checkpoint.sha256, PyTorchEstimator(estimator, config, contract.keypoints, flip=flip)


def _published(project: Project, contract: Contract) -> dict[str, float]:
    variant = project.variants.get(str(contract.name))
    return dict(variant.published) if variant and contract.weights == "real" else {}


def _areas(boxes: Any, contract: Contract) -> Any:
    _, scales = boxes_to_crops(boxes, (contract.input_w, contract.input_h), contract.box_padding)
    return scales.prod(axis=1)


def _mean_distance(estimates: dict[Side, list[Estimate]]) -> float:
    ours, theirs = (
        np.stack([e.keypoints[:, :2] for e in estimates[side]]) for side in ("runtime", "pytorch")
    )
    return float(np.linalg.norm(ours - theirs, axis=-1).mean())
