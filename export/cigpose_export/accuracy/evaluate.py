"""From pose estimates to AP and AR, as MMPose 1.3.2's metric classes give them.

Those use xtcocotools, which does not build on Python 3.13 and later. Here faster-coco-eval
evaluates, which knows no parts of a body: each is given to it as a data set of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_export.accuracy.protocols import NMS_THRESHOLD, SCORE_THRESHOLD, Protocol
from cigpose_runtime.errors import InstallError
from cigpose_runtime.files import appears_whole

UNDEFINED = -1.0
"""COCO's evaluator gives it where the annotations have nothing to evaluate."""

_NAMES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
_CROWD_NAMES = ("AP", "AP .5", "AP .75", "AR", "AR .5", "AR .75", "AP (E)", "AP (M)", "AP (H)")


@dataclass(frozen=True)
class Estimate:
    """One person's pose.

    number: as in `annotations.Person`. box_xyxy and box_score: what it was estimated from. area:
    of the crop, in frame pixels. keypoints: (K,3) float32, x, y in frame pixels, score.
    """

    image_id: int
    number: int
    box_xyxy: tuple[float, float, float, float]
    box_score: float
    area: float
    keypoints: NDArray[np.float32]


def write_results(
    path: Path, estimates: Sequence[Estimate], protocol: Protocol, sigmas: Sequence[float]
) -> None:
    """Writes the data set's official form of results, scored and without duplicates."""
    by_picture: dict[int, list[Estimate]] = {}
    for estimate in sorted(estimates, key=lambda e: e.number):
        by_picture.setdefault(estimate.image_id, []).append(estimate)
    results = [
        _result(people[index], protocol)
        for people in by_picture.values()
        for index in _without_duplicates(people, np.array(sigmas))
    ]
    with appears_whole(path) as file:
        file.write(json.dumps(results).encode())


def evaluate(
    annotations: Path, results: Path, protocol: Protocol, sigmas: Sequence[float]
) -> dict[str, float]:
    """The figures of a results file, 0 to 1, by name.

    UNDEFINED is what the annotations have nothing for, as AP (M) where nobody is of medium size.
    sigmas: (K,) as in `KeypointSet`. For hands, `hand AP` and `hand AR` are the means of both.
    Raises InstallError where the evaluator is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise InstallError(
            f"AP is measured with faster-coco-eval, which cannot be imported ({error}); "
            "run make setup"
        ) from error

    truth = json.loads(annotations.read_text("utf-8"))
    found = json.loads(results.read_text("utf-8"))
    figures: dict[str, float] = {}
    for part, fields in protocol.parts.items():
        true_poses = COCO(
            {**truth, "annotations": _annotated(truth["annotations"], fields, protocol)}
        )
        evaluator = COCOeval_faster(
            true_poses,
            true_poses.loadRes(_estimated(found, fields)),
            "keypoints_crowd" if protocol.crowded else "keypoints",
            kpt_oks_sigmas=_sigmas_of(fields, protocol, sigmas),
            use_area=not protocol.crowded,
        )
        evaluator.run()
        names = _CROWD_NAMES if protocol.crowded else _NAMES
        for name, value in zip(names, evaluator.stats, strict=True):
            figures[f"{part} {name}".strip()] = float(value)
    if "left hand" in protocol.parts:
        for name in ("AP", "AR"):
            both = figures[f"left hand {name}"], figures[f"right hand {name}"]
            figures[f"hand {name}"] = UNDEFINED if UNDEFINED in both else sum(both) / 2
    return figures


def _annotated(
    people: Sequence[Mapping[str, Any]], fields: Sequence[str], protocol: Protocol
) -> list[dict[str, Any]]:
    """The annotations of one part. Where it is not labelled, a person counts for nothing."""
    part = []
    for number, person in enumerate(people, 1):  # for the evaluator, 0 is nobody
        keypoints = _joined(person, fields)
        labelled = sum(visibility > 0 for visibility in keypoints[2::3])
        if protocol.crowded:  # CrowdPose counts in its own way, and has no areas
            _, _, width, height = person["bbox"]
            own = {"area": 0.53 * width * height, "num_keypoints": person["num_keypoints"]}
        else:
            own = {"area": person["area"], "num_keypoints": labelled}
        part.append({**person, **own, "id": number, "keypoints": keypoints})
    return part


def _estimated(people: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[dict[str, Any]]:
    """The estimates of one part, less those without any score.

    As in xtcocotools, their size is that of the box, or where there is none, of the body.
    """
    part = []
    for person in people:
        keypoints = _joined(person, fields)
        xs, ys = person["keypoints"][0::3], person["keypoints"][1::3]
        around = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        if max(keypoints[2::3]) > 0:
            part.append({"bbox": around, **person, "keypoints": keypoints})
    return part


def _joined(person: Mapping[str, Any], fields: Sequence[str]) -> list[float]:
    return [value for field in fields for value in person[field]]


def _sigmas_of(
    fields: Sequence[str], protocol: Protocol, sigmas: Sequence[float]
) -> NDArray[np.float64]:
    ends = dict(zip(protocol.fields, np.cumsum([*protocol.fields.values()]), strict=True))
    return np.concatenate([sigmas[ends[f] - protocol.fields[f] : ends[f]] for f in fields])


def published_figures(
    figures: Mapping[str, float], published: Mapping[str, float], protocol: Protocol
) -> list[tuple[str, float, float | None]]:
    """What a publisher reports of a data set: name, found and published, both in percent."""
    return [
        (name, 100 * figures[name], published.get(key)) for key, name in protocol.published.items()
    ]


def person_score(estimate: Estimate) -> float:
    """The box's score times the mean of the keypoint scores that count."""
    scores = estimate.keypoints[:, 2]
    counted = scores[scores > SCORE_THRESHOLD]
    return estimate.box_score * float(counted.mean()) if len(counted) else 0.0


def _without_duplicates(people: Sequence[Estimate], sigmas: NDArray[np.floating]) -> list[int]:
    """Which to keep, the most confident first: of two near-identical poses, the better one."""
    left = np.argsort([person_score(person) for person in people])[::-1].tolist()
    kept = []
    while left:
        best, *others = left
        kept.append(best)
        left = [o for o in others if _similarity(people[best], people[o], sigmas) <= NMS_THRESHOLD]
    return kept


def _similarity(a: Estimate, b: Estimate, sigmas: NDArray[np.floating]) -> float:
    squares = ((a.keypoints[:, :2].astype(np.float64) - b.keypoints[:, :2]) ** 2).sum(1)
    area = (a.area + b.area) / 2 + np.spacing(1)
    return float(np.exp(-squares / (2 * sigmas) ** 2 / area / 2).mean())


def _result(estimate: Estimate, protocol: Protocol) -> dict[str, Any]:
    flat = estimate.keypoints.astype(np.float64).ravel().tolist()
    result: dict[str, Any] = {
        "image_id": estimate.image_id,
        "category_id": 1,
        "score": person_score(estimate),
    }
    start = 0
    for field, count in protocol.fields.items():
        result[field] = flat[3 * start : 3 * (start + count)]
        start += count
    if len(protocol.fields) == 1:
        left, top, right, bottom = estimate.box_xyxy
        result["bbox"] = [left, top, right - left, bottom - top]
    return result
