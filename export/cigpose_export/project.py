"""The clone that the toolchain runs from: where everything is, and which variants there are."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cigpose_export.errors import ConfigError, MissingCheckpointError, VariantError
from cigpose_export.own_model import OwnModel
from cigpose_export.variants import DEMO, Variant, WeightsKind

Model = Variant | OwnModel
"""What can be exported and verified."""


@dataclass(frozen=True)
class Project:
    """The clone that the toolchain runs from: configs, manifest, checkpoints, artefacts."""

    root: Path

    @classmethod
    def of_this_clone(cls) -> Project:
        """The clone that this module lies in."""
        return cls(Path(__file__).resolve().parents[2])

    @property
    def manifest_path(self) -> Path:
        return self.root / "checkpoints" / "manifest.toml"

    def config_path(self, name: str) -> Path:
        """The MMEngine config of a variant."""
        return self.root / "configs" / f"{name}.py"

    def config_of(self, model: Model) -> Path:
        """The MMEngine config of a variant or of a model of the user's own."""
        return model.config if isinstance(model, OwnModel) else self.config_path(model.name)

    def checkpoint_path(self, name: str, weights: WeightsKind) -> Path:
        """Where a variant's checkpoint lies once it is fetched or synthesised."""
        return self.root / "checkpoints" / weights / f"{name}.pth"

    def existing_checkpoint(self, name: str, weights: WeightsKind) -> Path:
        """As `checkpoint_path`; raises `MissingCheckpointError` when no file is there."""
        path = self.checkpoint_path(name, weights)
        if not path.is_file():
            if weights == "real":
                hint = (
                    f"run `make checkpoints MODELS={name}`, or export stand-ins: "
                    f"`make export-all WEIGHTS=synthetic MODELS={name}`"
                )
            elif weights == "synthetic":
                hint = f"run `.venv/bin/cigpose-tools checkpoints synthesize {name}`"
            else:
                hint = f"only {DEMO.name} has demo weights; they are in git"
            if name not in self.variants and name != DEMO.name:
                hint = "give the file with --checkpoint"
            raise MissingCheckpointError(
                f"{name}: no {weights} checkpoint at {path.relative_to(self.root)}; {hint}"
            )
        return path

    def artefact_folder(self, weights: WeightsKind) -> Path:
        """Where exported files go unless the caller names another folder."""
        return self.root / "dist" / weights

    @property
    def release_folder(self) -> Path:
        """Where a release is built unless the caller names another folder."""
        return self.root / "dist" / "release"

    def artefact_path(self, name: str, weights: WeightsKind) -> Path:
        """A variant's exported file in the default folder."""
        return self.artefact_folder(weights) / f"{name}.onnx"

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """The variants of the manifest by name, in its order; raises `ConfigError`."""
        if not self.manifest_path.is_file():
            raise ConfigError(
                f"expected a clone at {self.root}, found no checkpoints/manifest.toml in it; "
                "install the toolchain from a clone (make setup), or pass --project DIR"
            )
        try:
            tables = tomllib.loads(self.manifest_path.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.manifest_path} is not a readable TOML file ({error}); restore it from git"
            ) from error
        return {name: Variant.from_manifest(name, table) for name, table in tables.items()}

    def select(self, names: Iterable[str]) -> list[Variant]:
        """The variants of these names, in this order; raises `VariantError` on an unknown one.

        DEMO is selected by its name only; it is not one of `variants`.
        """
        return [self._variant(name) for name in dict.fromkeys(names)]

    def own_model(self, config: str, name: str | None, keypoints: Path | None) -> OwnModel:
        """A model that is no variant; arguments and errors as those of `OwnModel.of`."""
        return OwnModel.of(config, name, keypoints, taken=(DEMO.name, *self.variants))

    def model(self, name: str, config: str | None, keypoints: str | None) -> Model:
        """The model of these arguments, which `arguments_of` gives to a process of its own."""
        if config is None:
            return self._variant(name)
        return OwnModel(name, Path(config), Path(keypoints) if keypoints else None)

    def _variant(self, name: str) -> Variant:
        if name == DEMO.name:
            return DEMO
        if name not in self.variants:
            near = difflib.get_close_matches(name, self.variants, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "none has a similar name;"
            raise VariantError(
                f"no variant {name!r}: {hint} `.venv/bin/cigpose-tools list` shows all"
            )
        return self.variants[name]


def arguments_of(model: Model) -> dict[str, str | None]:
    """A model as plain values, of which `Project.model` makes it again."""
    if not isinstance(model, OwnModel):
        return {"name": model.name, "config": None, "keypoints": None}
    keypoints = model.keypoints_path
    return {
        "name": model.name,
        "config": str(model.config),
        "keypoints": str(keypoints.absolute()) if keypoints else None,
    }
