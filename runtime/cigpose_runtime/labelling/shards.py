"""Shards: the parts in which pictures are labelled, written and, after a stop, taken up again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from cigpose_runtime.labelling.items import Item


@dataclass(frozen=True)
class Shard:
    """What becomes one Parquet file: some pictures, or one video. number: among all shards."""

    number: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """Of its file."""
        return f"shard-{self.number:06d}.parquet"

    @property
    def inputs_sha256(self) -> str:
        """Says whether it is still about the same pictures and boxes, by name, size and time."""
        described = [[type(one.part).__name__, *astuple(one)] for one in self.items]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def plan(items: Sequence[Item], size: int) -> list[Shard]:
    """Shards of `size` pictures, in order; then each video in a shard of its own."""
    pictures = [item for item in items if item.kind == "picture"]
    videos = [item for item in items if item.kind == "video"]
    parts = [tuple(pictures[start : start + size]) for start in range(0, len(pictures), size)]
    parts += [(video,) for video in videos]
    return [Shard(number, part) for number, part in enumerate(parts)]
