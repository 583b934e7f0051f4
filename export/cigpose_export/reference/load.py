"""The reference model of a model with the weights of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cigpose_export.checkpoints.compare_config import require_same_model
from cigpose_export.checkpoints.load import Checkpoint, load_checkpoint, load_weights
from cigpose_export.errors import ConfigError
from cigpose_export.graph.contract import build_contract
from cigpose_export.modeling.build import (
    build_reference,
    load_config,
    register_head,
    require_runs,
)
from cigpose_export.openmmlab import Config
from cigpose_export.project import Model, Project
from cigpose_runtime import Contract


@dataclass(frozen=True)
class Reference:
    """An estimator of MMPose, whose it is, the config that it is built by, and its checkpoint.

    note: that of `require_same_model`.
    """

    model: Model
    estimator: Any
    config: Config
    checkpoint: Checkpoint
    note: str | None

    def contract(self) -> Contract:
        """What an artefact of it says. Raises ConfigError where nobody names the keypoints."""
        return build_contract(self.model, self.config, self.checkpoint)


def load_reference(
    project: Project,
    model: Model,
    checkpoint_path: Path,
    *,
    weights_key: str | None = None,
    fork: bool = False,
) -> Reference:
    """The reference model. fork: its head has to be that of a CIGPose fork that is on the path.

    Raises CigposeError.
    """
    if fork and register_head().startswith("cigpose_export."):
        raise ConfigError(
            "--against: the MMPose in this folder registers no CIGHead; give "
            "the folder that its mmpose package lies in"
        )
    config = load_config(project.config_of(model))
    checkpoint = load_checkpoint(checkpoint_path, weights_key=weights_key)
    note = require_same_model(checkpoint, config)
    estimator = build_reference(config)
    load_weights(estimator, checkpoint)
    require_runs(estimator, config)
    return Reference(model, estimator, config, checkpoint, note)
