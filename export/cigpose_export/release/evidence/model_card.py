"""The model card of a model as CycloneDX 1.7 has it: what it is, its training data, its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cigpose_export.release.figures import (
    compared_with,
    parity_figures,
    published_figures,
    published_protocol,
    published_variant,
)
from cigpose_export.release.verified_models import VerifiedModel
from cigpose_export.variants import Variant
from cigpose_runtime import Contract
from cigpose_runtime.model_file.frame_contract import FrameContract, interface

_WHOLEBODY = {"COCO-WholeBody": "https://github.com/jin-s13/COCO-WholeBody/"}
_TRAINING_DATA: Mapping[str, Mapping[str, str]] = {
    "coco": {"COCO": "http://cocodataset.org/"},
    "coco-wholebody": _WHOLEBODY,
    "coco-ubody": {**_WHOLEBODY, "UBody": "https://github.com/IDEA-Research/OSX"},
    "crowdpose": {"CrowdPose": "https://github.com/Jeff-sjtu/CrowdPose"},
}
"""By the data set in a variant's name: each with its home page, as MMPose 1.3.2 has it in
configs/_base_/datasets/. What the backbone was pretrained on, the publisher does not say."""

_NOT_PUBLISHED = {
    "synthetic": "The weights are seeded noise: the model estimates nothing.",
    "demo": "Trained on drawn people, for demonstration.",
    "real": "Not a published checkpoint: neither its training data nor its accuracy is known here.",
}
"""By the kind of weights: what holds in the place of the published figures."""


def cyclonedx_model_card(one: VerifiedModel) -> dict[str, Any]:
    """The `modelCard` of a component of the type machine-learning-model.

    Only the published weights have training data and AP; the figures of parity are always there.
    Source: cyclonedx.org/docs/1.7/json, components[].modelCard.
    """
    contract, variant = one.contract, published_variant(one)
    whom = "the people in a frame" if one.packed else "one person in a crop"
    parameters: dict[str, Any] = {"task": f"2D pose of {whom}: {contract.num_keypoints} keypoints"}
    if one.variant is not None:
        parameters["architectureFamily"] = "convolutional neural network"
        parameters["modelArchitecture"] = f"CIGPose, size {one.variant.size}"
    if variant is not None:
        parameters["approach"] = {"type": "supervised"}
        parameters["datasets"] = [
            {"type": "dataset", "name": name, "contents": {"url": url}}
            for name, url in _TRAINING_DATA[variant.dataset].items()
        ]
    inputs, outputs = _formats(contract) if one.packed is None else _frame_formats(one.packed)
    parameters["inputs"] = [{"format": text} for text in inputs]
    parameters["outputs"] = [{"format": text} for text in outputs]
    card: dict[str, Any] = {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": [*_accuracy(variant), *_parity(one)]},
    }
    if variant is None:
        assert contract.weights is not None
        limitation = _NOT_PUBLISHED[contract.weights]
        card["considerations"] = {"technicalLimitations": [limitation]}
    return card


def _formats(contract: Contract) -> tuple[list[str], list[str]]:
    """Of the inputs and outputs."""
    shape = f"batch, 3, {contract.input_h}, {contract.input_w}"
    sides = (("simcc_x", contract.input_w), ("simcc_y", contract.input_h))
    return [f"float32 ({shape}), {contract.color_order.upper()}, normalised"], [
        f"{name}: float32 (batch, {contract.num_keypoints}, {int(side * contract.split_ratio)}), "
        "SimCC logits"
        for name, side in sides
    ]


def _frame_formats(packed: FrameContract) -> tuple[list[str], list[str]]:
    values = list(map(str, interface(packed)))
    count = 1 if packed.detector else 2
    return values[:count], values[count:]


def _accuracy(variant: Variant | None) -> list[dict[str, str]]:
    if variant is None:
        return []
    protocol = f"{published_protocol(variant)}; as published for the checkpoint, in percent"
    return [
        {"type": name, "value": f"{value}", "slice": protocol}
        for name, value in published_figures(variant).items()
    ]


def _parity(one: VerifiedModel) -> list[dict[str, str]]:
    return [
        {"type": name, "value": value, "slice": f"parity of this file with {compared_with(one)}"}
        for name, value in parity_figures(one).items()
    ]
