"""The 14 published variants: their names, what the names say, and where their parts are."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cigpose_export.errors import ConfigError, MissingCheckpointError, VariantError

WeightsKind = Literal["real", "synthetic", "demo"]

NAME = re.compile(
    r"cigpose-(?P<size>[mlx])_(?P<dataset>coco-wholebody|coco-ubody|coco|crowdpose)"
    r"_(?P<height>256|384)x(?P<width>192|288)"
)
NUM_KEYPOINTS = {"coco-wholebody": 133, "coco-ubody": 133, "coco": 17, "crowdpose": 14}
MANIFEST_KEYS = {"source", "config", "published", "sha256"}


@dataclass(frozen=True)
class Project:
    """The clone that the toolchain runs from: configs, manifest, checkpoints, artefacts."""

    root: Path

    @classmethod
    def of_this_clone(cls) -> Project:
        """The clone that this module lies in; raises `ConfigError` when it lies in none."""
        root = Path(__file__).resolve().parents[2]
        project = cls(root)
        if not project.manifest_path.is_file():
            raise ConfigError(
                f"expected a clone at {root}, found no checkpoints/manifest.toml in it; "
                "install the toolchain from a clone (make setup)"
            )
        return project

    @property
    def manifest_path(self) -> Path:
        return self.root / "checkpoints" / "manifest.toml"

    def config_path(self, name: str) -> Path:
        """The MMEngine config of a variant."""
        return self.root / "configs" / f"{name}.py"

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
        """The variants of the manifest by name, in its order."""
        try:
            tables = tomllib.loads(self.manifest_path.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.manifest_path} is no readable TOML file ({error}); restore it from git"
            ) from error
        return {name: Variant.from_manifest(name, table) for name, table in tables.items()}

    def select(self, names: Iterable[str]) -> list[Variant]:
        """The variants of these names, in this order; raises `VariantError` on an unknown one.

        DEMO is there by its name alone: it is none of `variants`.
        """
        return [self._variant(name) for name in dict.fromkeys(names)]

    def _variant(self, name: str) -> Variant:
        if name == DEMO.name:
            return DEMO
        if name not in self.variants:
            near = difflib.get_close_matches(name, self.variants, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "there is none like it;"
            raise VariantError(
                f"no variant {name!r}: {hint} `.venv/bin/cigpose-tools list` shows all"
            )
        return self.variants[name]


@dataclass(frozen=True)
class Variant:
    """One published checkpoint: what its name says and what the manifest holds.

    `published` is AP and AR in percent as the publisher reports them; `sha256` is None until the
    first fetch has recorded it.
    """

    name: str
    size: str
    dataset: str
    num_keypoints: int
    input_w: int
    input_h: int
    source: str
    published: Mapping[str, float]
    sha256: str | None

    @classmethod
    def from_manifest(cls, name: str, table: Mapping[str, Any]) -> Variant:
        """Reads one table of the manifest; raises `ConfigError` when it is malformed."""
        match = NAME.fullmatch(name)
        if match is None:
            raise ConfigError(
                "checkpoints/manifest.toml: expected tables with names like "
                f"cigpose-m_coco_256x192, found {name!r}; correct it"
            )
        if problem := _problem_of(table):
            raise ConfigError(f"checkpoints/manifest.toml, {name}: {problem}; correct it")
        sha256 = table.get("sha256")
        if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", str(sha256)):
            raise ConfigError(
                f"checkpoints/manifest.toml, {name}: expected sha256 of 64 hex digits, "
                f"found {sha256!r}; remove it, and the next fetch records it anew"
            )
        return cls(
            name=name,
            size=match["size"],
            dataset=match["dataset"],
            num_keypoints=NUM_KEYPOINTS[match["dataset"]],
            input_w=int(match["width"]),
            input_h=int(match["height"]),
            source=table["source"],
            published=table.get("published", {}),
            sha256=sha256,
        )


DEMO = Variant(
    name="cigpose-demo_drawn_128x96",
    size="demo",
    dataset="drawn",
    num_keypoints=17,
    input_w=96,
    input_h=128,
    source="export/cigpose_export/drawn/train.py",
    published={},
    sha256=None,
)
"""The tiny model that is trained here on drawn people, beside the 14 published ones."""


def _problem_of(table: object) -> str | None:
    if not isinstance(table, Mapping):
        return f"expected a table, found {table!r}"
    if unknown := sorted(set(table) - MANIFEST_KEYS):
        return f"expected only {', '.join(sorted(MANIFEST_KEYS))}, found {', '.join(unknown)}"
    if not isinstance(table.get("source"), str):
        return f"expected a source, as text, found {table.get('source')!r}"
    published = table.get("published", {})
    if not isinstance(published, Mapping) or not all(
        isinstance(value, int | float) for value in published.values()
    ):
        return f"expected published to be a table of numbers, found {published!r}"
    return None
