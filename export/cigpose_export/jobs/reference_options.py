"""What verified files are compared with in PyTorch: whose model, and which checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cigpose_export.errors import CheckpointError, UsageError, VariantError
from cigpose_export.jobs.staleness import hash_of
from cigpose_export.project import Model, Project, arguments_of
from cigpose_export.variants import DEMO, WeightsKind
from cigpose_runtime.files import file_sha256


@dataclass(frozen=True)
class ReferenceOptions:
    """What files are compared with, where it is not what they name themselves.

    checkpoint: in place of the project's own, for one file. config, keypoints: of a file that is no
    published variant's, as of `Project.own_model`. images: a folder of pictures that add
    crops to the cases. against: a folder that a CIGPose fork's mmpose package lies in; its head is
    then the PyTorch side. weights_key: the entry of the checkpoint that holds the weights. model:
    the published variant that files somebody else exported are compared as; metadata: a file that
    says what they do not say of themselves.
    """

    checkpoint: Path | None = None
    images: Path | None = None
    against: Path | None = None
    weights_key: str | None = None
    config: str | None = None
    keypoints: Path | None = None
    model: str | None = None
    metadata: Path | None = None

    def __post_init__(self) -> None:
        if self.against is not None and not (self.against / "mmpose").is_dir():
            raise UsageError(
                f"--against {self.against}: expected a folder with an mmpose package in it, found "
                "none; give the root of the fork's checkout"
            )
        if self.metadata is not None and not self.metadata.is_file():
            raise UsageError(f"--metadata {self.metadata}: expected a JSON file; correct the path")

    @cached_property
    def content(self) -> str:
        """A hash of the pictures, of the fork's code and of the choice of weights."""
        files = []
        if self.images is not None and self.images.is_dir():
            files += sorted(path for path in self.images.iterdir() if path.is_file())
        if self.against is not None:
            files += sorted((self.against / "mmpose").rglob("*.py"))
        named = (f"{path.name} {file_sha256(path)}" for path in files)
        return hash_of(self.weights_key or "", *named)

    @property
    def environment(self) -> dict[str, str]:
        """What lets a worker import the fork in place of the installed MMPose."""
        if self.against is None:
            return {}
        paths = [str(self.against.absolute()), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def subject(self, project: Project, name: str, weights: WeightsKind) -> tuple[Model, Path]:
        """What a file of this name is compared with: the model, and its checkpoint.

        Raises VariantError for a name that is nobody's, CheckpointError (of the project's own,
        MissingCheckpointError), UsageError.
        """
        model = self._model(project, name)
        checkpoint = self.checkpoint
        if checkpoint is None:
            checkpoint = project.existing_checkpoint(name, weights)
        if not checkpoint.is_file():
            raise CheckpointError(f"{checkpoint}: expected a checkpoint, found no file; correct it")
        return model, checkpoint

    def arguments(self, project: Project, model: Model, checkpoint: Path) -> dict[str, Any]:
        """The subject as arguments of a worker's function."""
        return {
            "project": str(project.root),
            "model": arguments_of(model),
            "checkpoint": str(checkpoint),
            "weights_key": self.weights_key,
        }

    def _model(self, project: Project, name: str) -> Model:
        if self.config is not None and name not in (DEMO.name, *project.variants):
            return project.own_model(self.config, name, self.keypoints)
        if self.config is not None:
            raise UsageError(
                f"expected another model than a published variant for --config, found {name}, "
                "which has its config here; leave --config out"
            )
        try:
            (variant,) = project.select([name])
        except VariantError as error:
            raise VariantError(
                f"no model of a published variant: {error}; if it is your own, give its --config "
                "and --checkpoint"
            ) from error
        return variant
