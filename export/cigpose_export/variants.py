"""A variant: one published checkpoint, what its name says, and what the manifest holds of it.

To add one, give it a table in checkpoints/manifest.toml and a config, configs/NAME.py; here only
where its size or its data set is new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cigpose_export.errors import ConfigError
from cigpose_runtime.keypoints import COCO, COCO_WHOLEBODY, KEYPOINT_SETS, KeypointSet

WeightsKind = Literal["real", "synthetic", "demo"]

NAME = re.compile(
    r"cigpose-(?P<size>[mlx])_(?P<dataset>coco-wholebody|coco-ubody|coco|crowdpose)"
    r"_(?P<height>256|384)x(?P<width>192|288)"
)
KEYPOINTS = {**KEYPOINT_SETS, "coco-ubody": COCO_WHOLEBODY}
"""The keypoints by data set; UBody is annotated with those of COCO-WholeBody."""

MANIFEST_KEYS = {"source", "config", "published", "sha256"}


@dataclass(frozen=True)
class Variant:
    """One published checkpoint: what its name says and what the manifest holds.

    `published` is AP and AR in percent as the publisher reports them; `sha256` is None until the
    first fetch has recorded it.
    """

    name: str
    size: str
    dataset: str
    keypoints: KeypointSet
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
            keypoints=KEYPOINTS[match["dataset"]],
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
    keypoints=COCO,
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
