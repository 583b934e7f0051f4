"""A drawn clip: the people of a scene sway, and come back to where they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cigpose_export.drawn.figure import Figure, make_figure
from cigpose_export.drawn.scene import Scene, compose, draw_background
from cigpose_runtime.keypoints import COCO, KeypointSet

SWAY = 0.45
"""How far a pose goes towards another one, in radians of the circle that they span."""


class _Swaying:
    """A generator whose normal draws go from one seed's towards another's and back.

    All else is the first seed's. A draw keeps its distribution, so that every pose on the way is
    one that could have been drawn.
    """

    def __init__(self, seed: list[int], angle: float) -> None:
        self._here, self._there = (np.random.default_rng([*seed, n]) for n in range(2))
        self._cos, self._sin = np.cos(angle), np.sin(angle)

    def normal(self, mean: float = 0, std: float = 1, size: Any = None) -> Any:
        here, there = (rng.normal(0, std, size) for rng in (self._here, self._there))
        return mean + self._cos * here + self._sin * there

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here, name)


def draw_clip(
    seed: int, frames: int, size_wh: tuple[int, int], people: int = 2, keypoints: KeypointSet = COCO
) -> Iterator[Scene]:
    """The scenes of a clip, which can be played in a loop."""
    width, height = size_wh
    background = draw_background(np.random.default_rng([seed, 0]), width, height)
    for frame in range(frames):
        angle = SWAY * np.sin(2 * np.pi * frame / frames)
        figures: list[Figure] = []
        for person in range(people):
            center = width * (person + 0.5) / people, 0.47 * height
            rng: Any = _Swaying([seed, 1 + person], angle)
            figures.append(make_figure(rng, center, 0.86 * height))
        yield compose(
            np.random.default_rng([seed, 9]), background.copy(), figures, [], keypoints.names
        )
