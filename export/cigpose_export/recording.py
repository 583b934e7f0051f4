"""One variant from checkpoint to what PyTorch answers: records and traces for the verifier."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from cigpose_export.checkpoints.load import Checkpoint, load_checkpoint, load_weights
from cigpose_export.errors import ConfigError
from cigpose_export.modeling.build import build_reference, load_config, register_head
from cigpose_export.modeling.dense import lower
from cigpose_export.reference import record_reference
from cigpose_export.stamp import build_contract
from cigpose_export.trace import trace
from cigpose_export.variants import Project, Variant
from cigpose_runtime import Contract
from cigpose_verify.cases import make_cases


def record_variant(
    project: Project,
    variant: Variant,
    *,
    checkpoint_path: Path,
    images: Path | None,
    fork: bool,
    target: Path,
) -> None:
    """Records all cases of a variant in `target`.

    images: more pictures to cut crops from. fork: the head has to be that of a CIGPose fork that
    is on the path. Raises `CigposeError`.
    """
    head = register_head()
    if fork and head.startswith("cigpose_export."):
        raise ConfigError(
            "--against: expected an MMPose fork that registers CIGHead, found none there; give "
            "the folder that its mmpose package lies in"
        )
    estimator, contract, checkpoint = _load(project, variant, checkpoint_path)
    origin = {
        "reference_head": head,
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint.sha256,
        "torch": torch.__version__,
        "platform": platform.machine(),
    }
    record_reference(estimator, contract, make_cases(contract, images), origin).write(target)


def trace_variant(
    project: Project,
    variant: Variant,
    *,
    checkpoint_path: Path,
    images: Path | None,
    case: str,
    target: Path,
) -> None:
    """Traces one case, by its name, of those that `record_variant` records."""
    estimator, contract, _ = _load(project, variant, checkpoint_path)
    (chosen,) = (c for c in make_cases(contract, images) if c.name == case)
    trace(lower(estimator), chosen).write(target)


def _load(
    project: Project, variant: Variant, checkpoint_path: Path
) -> tuple[Any, Contract, Checkpoint]:
    config = load_config(project.config_path(variant.name))
    checkpoint = load_checkpoint(checkpoint_path, expected_sha256=None)
    estimator = build_reference(config)
    load_weights(estimator, checkpoint)
    return estimator, build_contract(variant, config, checkpoint), checkpoint
