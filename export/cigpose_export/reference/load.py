"""The reference model of a model with the weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cigpose_export.checkpoints.compare_config import require_same_model
from cigpose_export.checkpoints.load import Checkpoint, load_checkpoint, load_weights
from cigpose_export.graph.contract import build_contract
from cigpose_export.modeling.build import build_reference, load_config, require_runs
from cigpose_export.project import Model, Project
from cigpose_runtime import Contract


def load_reference(
    project: Project, model: Model, checkpoint_path: Path, weights_key: str | None = None
) -> tuple[Any, Contract, Checkpoint, str | None]:
    """The estimator, the contract of an artefact of it, the checkpoint, and the note on the latter.

    The note is that of `require_same_model`. Raises CigposeError.
    """
    config = load_config(project.config_of(model))
    checkpoint = load_checkpoint(checkpoint_path, weights_key=weights_key)
    note = require_same_model(checkpoint, config)
    estimator = build_reference(config)
    load_weights(estimator, checkpoint)
    require_runs(estimator, config)
    return estimator, build_contract(model, config, checkpoint), checkpoint, note
