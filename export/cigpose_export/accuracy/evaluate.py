"""From pose estimates to AP and AR, by xtcocotools, as MMPose 1.3.2's metric classes do it."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
        from xtcocotools.coco import COCO
        from xtcocotools.cocoeval import COCOeval
    except (ImportError, ValueError) as error:  # built for another numpy: ValueError
        raise InstallError(
            f"AP is measured with xtcocotools, which cannot be imported ({error}); "
            "it is built from source: install a C compiler, then run make evaluator"
        ) from error

    figures: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one score for all parts is what MMPose gives it, too
        for part, first, last in _parts(protocol):
            truth = COCO(str(annotations))
            found = truth.loadRes(str(results))
            kind = protocol.kinds[part]
            evaluator = COCOeval(
                truth, found, kind, np.array(sigmas[first:last]), use_area=protocol.use_area
            )
            evaluator.params.useSegm = None
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            names = _CROWD_NAMES if kind == "keypoints_crowd" else _NAMES
            for name, value in zip(names, evaluator.stats, strict=True):
                figures[f"{part} {name}".strip()] = float(value)
    if "left hand" in protocol.kinds:
        for name in ("AP", "AR"):
            both = figures[f"left hand {name}"], figures[f"right hand {name}"]
            figures[f"hand {name}"] = UNDEFINED if UNDEFINED in both else sum(both) / 2
    return figures


def published_figures(
    figures: Mapping[str, float], published: Mapping[str, float], protocol: Protocol
) -> list[tuple[str, float, float | None]]:
    """What a publisher reports of a data set: name, found and published, both in percent."""
    return [
        (name, 100 * figures[name], published.get(key)) for key, name in protocol.published.items()
    ]


def _parts(protocol: Protocol) -> list[tuple[str, int, int]]:
    """Each part that is evaluated, and its range of keypoints; the last may be the whole."""
    ends = np.cumsum([0, *protocol.fields.values()]).tolist()
    ranges = [*pairwise(ends), (0, protocol.num_keypoints)]
    return [
        (part, first, last) for part, (first, last) in zip(protocol.kinds, ranges, strict=False)
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
