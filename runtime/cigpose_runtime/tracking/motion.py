"""Where a person will be: a Kalman filter of constant velocity.

As in SORT and ByteTrack, with centre and size of the box as the four measured values and standard
deviations that are shares of the person's size; but each value is filtered by itself, which needs
2x2 covariances only, and the velocity of somebody seen once is as unsure as a runner's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime.arrays import Floats

Reals = NDArray[np.float64]

MEASURED = 1 / 10
"""Standard deviation of a measured value: twice ByteTrack's, as arms and legs swing the box. With
its 1/20, IDF1 of people who cross falls from 88 to 82 (make bench, seeds 0 to 9)."""

DRIVEN = 1 / 160
"""By how much velocity changes in a frame, standard deviation (ByteTrack's std_weight_velocity)."""

STARTING_SPEED = 0.4
"""Of somebody seen once, a frame: a box width of who stands upright."""


@dataclass(frozen=True)
class Motion:
    """What is known of one box, as centre x, y, width and height in pixels.

    value, velocity: (4,), the latter a frame. variances: (4, 3), of the value, of both
    together, and of the velocity. size: the longer side of the box, in pixels.
    """

    value: Reals
    velocity: Reals
    variances: Reals
    size: float

    @classmethod
    def of(cls, box_xyxy: Floats) -> Motion:
        """Of a box that is seen for the first time."""
        value = _centered(box_xyxy)
        size = float(value[2:].max())
        unsure = np.array([MEASURED**2, 0, STARTING_SPEED**2])
        # A box does not grow as fast as it moves.
        variances = np.array([unsure, unsure, unsure / 16, unsure / 16])
        return cls(value, np.zeros(4), variances * size**2, size)

    def next(self) -> Motion:
        """A frame later, unseen."""
        driven = (DRIVEN * self.size) ** 2
        value, both, velocity = self.variances.T
        moved = value + 2 * both + velocity + driven / 4
        variances = np.stack([moved, both + velocity + driven / 2, velocity + driven], axis=1)
        return Motion(self.value + self.velocity, self.velocity, variances, self.size)

    def seen(self, box_xyxy: Floats) -> Motion:
        """With the box that is measured in this frame."""
        measured = _centered(box_xyxy)
        value, both, velocity = self.variances.T
        noise = value + (MEASURED * self.size) ** 2
        gain_value, gain_velocity = value / noise, both / noise
        off = measured - self.value
        variances = np.stack(
            [value * (1 - gain_value), both * (1 - gain_value), velocity - gain_velocity * both],
            axis=1,
        )
        return Motion(
            self.value + gain_value * off,
            self.velocity + gain_velocity * off,
            variances,
            float(measured[2:].max()),
        )

    @property
    def box_xyxy(self) -> Floats:
        """(4,) float32."""
        center, half = self.value[:2], np.maximum(self.value[2:], 1) / 2
        return np.concatenate([center - half, center + half]).astype(np.float32)

    @property
    def has_left(self) -> bool:
        """Whether the box has shrunk to nothing, as at the edge of the frame."""
        return bool(self.value[2:].min() <= 0)

    def distances(self, boxes_xyxy: Floats) -> Reals:
        """How far boxes (N, 4) are from here, in standard deviations of the centre: (N,)."""
        off = _centered(boxes_xyxy)[:, :2] - self.value[:2]
        expected = self.variances[:2, 0] + (MEASURED * self.size) ** 2
        distances: Reals = np.sqrt((off**2 / expected).sum(axis=1))
        return distances


def _centered(boxes_xyxy: Floats) -> Reals:
    """Boxes (..., 4) as centre x, y, width and height."""
    low, high = boxes_xyxy[..., :2].astype(np.float64), boxes_xyxy[..., 2:].astype(np.float64)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)
