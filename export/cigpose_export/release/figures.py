"""The figures of a model: what was published for its checkpoint, and what verify measured."""

from __future__ import annotations

from collections.abc import Mapping

from cigpose_export.release.verified_models import VerifiedModel
from cigpose_export.variants import Variant
from cigpose_verify.measures.stage_texts import parity_tolerance

_METRICS = {
    "ap": "AP",
    "ar": "AR",
    "body_ap": "body AP",
    "foot_ap": "foot AP",
    "face_ap": "face AP",
    "hand_ap": "hand AP",
    "whole_ap": "whole-body AP",
    "ap_easy": "AP easy",
    "ap_medium": "AP medium",
    "ap_hard": "AP hard",
}
_EVALUATION_DATA = {
    "coco": "COCO val2017",
    "coco-wholebody": "COCO-WholeBody v1.0 val",
    "coco-ubody": "COCO-WholeBody v1.0 val, trained with UBody as well",
    "crowdpose": "CrowdPose test",
}


def published_variant(one: VerifiedModel) -> Variant | None:
    """The published variant whose figures hold for a model: None for other weights than its own."""
    is_published = one.contract.weights == "real" and not one.has_own_weights
    return one.variant if is_published else None


def published_figures(variant: Variant) -> Mapping[str, float]:
    """AP and AR in percent, by name."""
    return {_METRICS[key]: value for key, value in variant.published.items() if key in _METRICS}


def published_protocol(variant: Variant) -> str:
    """What the published figures were measured on."""
    boxes = "annotated boxes" if variant.dataset == "coco" else "detected boxes"
    return f"{_EVALUATION_DATA[variant.dataset]}, with {boxes} and flip test"


def compared_with(one: VerifiedModel) -> str:
    """What a verdict holds the file to."""
    others = {"packed": "the runtime", "int8": "the float32 file"}
    return others.get(one.form, "PyTorch")


def parity_figures(one: VerifiedModel) -> Mapping[str, str]:
    """How far the file is from what it is compared with, by what was measured."""
    report = one.report
    if one.form == "packed":
        return {
            "keypoints and scores": "bit for bit the runtime's on the file that it was packed from",
            "compared on": "three photographs and noise",
        }
    if one.form == "int8":
        return {
            "graph": "the float32 file's but for 8 bits, each weight to half a step",
            "accuracy": "; ".join(report.notes),
        }
    chosen, points, precision = report.intervention, report.keypoints, report.precision
    assert points is not None
    assert precision is not None
    choices = "not applicable to this head"
    if chosen is not None:
        choices = (
            f"{chosen.agreeing} of {chosen.choices} choices agree, {chosen.near_ties} near ties"
        )
    excess = max(cell.excess or 0 for cell in report.cells)
    allowed = parity_tolerance() if one.form == "fp32" else "reduced precision"
    return {
        "largest error": f"{excess:.0%} of what is allowed ({allowed}), over "
        f"{len(report.cells)} settings of onnxruntime",
        "error against float64": f"{precision.ratio or 0:.2f} times the noise floor of PyTorch's "
        "float32",
        "intervention": choices,
        "keypoints misread outside near ties": f"{points.misread} of {points.compared}",
    }
