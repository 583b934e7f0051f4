"""One model from checkpoint to artefact: the whole flow, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cigpose_export.checkpoints.compare_config import require_same_model
from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.checkpoints.synthesize import synthesize
from cigpose_export.errors import CheckpointError, ConfigError, ExportError
from cigpose_export.graph.contract import build_contract
from cigpose_export.graph.opset import to_opset_17
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.stamp import read_back_problems, stamp
from cigpose_export.graph.translate import export_graph
from cigpose_export.modeling.build import (
    build_reference,
    class_path,
    load_config,
    require_runs,
)
from cigpose_export.modeling.dense import lower
from cigpose_export.openmmlab import Config
from cigpose_export.project import Model, Project
from cigpose_export.reference.evaluations import noise_floor
from cigpose_export.reference.run import ReferenceOutputs, intervention_margin, run_reference
from cigpose_export.variants import Variant, WeightsKind
from cigpose_runtime import Contract, parse_onnx
from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.files import appears_whole
from cigpose_verify.measures.tolerances import WORST_CONDITION, compare, condition_of


@dataclass(frozen=True)
class Exported:
    """What an export made and from what.

    `reference_head` is the head's class; `note` what of the checkpoint's own config could not be
    compared, None where all could.
    """

    reference_head: str
    checkpoint_sha256: str
    sha256: str
    nodes: int
    size: int
    note: str | None = None


def export_model(
    project: Project,
    model: Model,
    *,
    weights: WeightsKind,
    checkpoint_path: Path | None,
    weights_key: str | None = None,
    target: Path,
    on_stage: Callable[[str], None],
) -> Exported:
    """Exports one model to `target`, which appears only once its bytes have passed all checks.

    A `checkpoint_path` replaces the project's own checkpoint of the given kind; `weights_key` names
    the entry in it that holds the weights. Synthetic
    checkpoints are made here, anew; real ones have to be there. Raises `CigposeError`.
    """
    config = load_config(project.config_of(model))
    if isinstance(model, Variant):
        require_config_of(model, config)
    expected_sha256 = None
    if checkpoint_path is None:
        if weights == "synthetic":
            on_stage("synthesize")
            synthesize(project, model)
        elif isinstance(model, Variant):
            expected_sha256 = model.sha256
        checkpoint_path = project.existing_checkpoint(model.name, weights)

    on_stage("load")
    checkpoint = load_checkpoint(
        checkpoint_path, expected_sha256=expected_sha256, weights_key=weights_key
    )
    if checkpoint.weights != weights:
        raise CheckpointError(
            f"{checkpoint_path}: expected {weights} weights, found {checkpoint.weights} ones; "
            f"pass --weights {checkpoint.weights} or another file"
        )
    note = require_same_model(checkpoint, config)
    estimator = build_reference(config)
    load_weights(estimator, checkpoint)
    require_runs(estimator, config)
    contract = build_contract(model, config, checkpoint)

    on_stage("graph")
    graph = export_graph(lower(estimator), input_h=contract.input_h, input_w=contract.input_w)
    on_stage("simplify")
    graph = to_opset_17(simplify(graph))
    with appears_whole(target) as file:
        file.write(stamp(graph, contract))
        del graph
        on_stage("check")
        file.seek(0)
        written = file.read()
        check_artefact(written, contract, estimator)
    return Exported(
        reference_head=class_path(type(estimator.head)),
        checkpoint_sha256=checkpoint.sha256,
        sha256=hashlib.sha256(written).hexdigest(),
        nodes=parse_onnx(written).node_count,
        size=len(written),
        note=note,
    )


def require_config_of(variant: Variant, config: Config) -> None:
    """Raises `ConfigError` when a config is not that of the variant."""
    expected = (len(variant.keypoints.names), variant.input_w, variant.input_h)
    found = (config.model.head.out_channels, *config.codec.input_size)
    if found != expected:
        raise ConfigError(
            f"configs/{variant.name}.py: expected keypoints, width and height {expected} after its "
            f"name, found {found}; correct the config"
        )


def check_artefact(data: bytes, contract: Contract, estimator: Any) -> None:
    """Checks the bytes of an artefact; raises `ExportError` with all that does not hold."""
    problems = read_back_problems(data, contract)
    if not problems:
        problems = check_outputs(data, estimator, clear_cases(contract, estimator))
    if problems:
        raise ExportError(f"{contract.name}: {'; '.join(problems)}; nothing was written")


def check_outputs(data: bytes, estimator: Any, images: NDArray[np.float32]) -> list[str]:
    """Compares onnxruntime with the reference on images (B,3,h,w), as one batch and singly.

    Where they differ by more than they do for a well-conditioned model, by what rounding explains.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    problems = []
    for batch in (images, images[:1]):
        reference = run_reference(estimator, batch)
        outputs = session.run(["simcc_x", "simcc_y"], {"input": batch})
        if _differences(outputs, reference):
            problems += _differences(outputs, reference, noise_floor(estimator, batch))
    return problems


def _differences(
    outputs: Sequence[NDArray[np.floating]], reference: ReferenceOutputs, floor: float = 0.0
) -> list[str]:
    """Which outputs differ by more than PyTorch's noise floor explains."""
    problems = []
    for name, output in zip(("simcc_x", "simcc_y"), outputs, strict=True):
        there = getattr(reference, name)
        known = floor if condition_of(there, floor) <= WORST_CONDITION else 0.0
        agreement = compare(output, there, known)
        if not agreement.holds:
            problems.append(
                f"{name} at batch {len(output)}: expected max|difference| to PyTorch <= "
                f"{agreement.tolerance:.2e}, found {agreement.error:.2e}"
            )
    return problems


def clear_cases(contract: Contract, estimator: Any, count: int = 3) -> NDArray[np.float32]:
    """Seeded noise (count,3,h,w): of twice as many pictures, those of the clearest intervention.

    Where the intervention chooses by less than rounding, onnxruntime may rightly choose otherwise,
    and nothing could be said of the outputs.
    """
    shape = (2 * count, 3, contract.input_h, contract.input_w)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    margins = intervention_margin(estimator, run_reference(estimator, images))
    return images[np.argsort(margins)[-count:]]
