"""The pixels of a frame, looked up at computed places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cigpose_export.graph.frame.builder import Value


@dataclass(frozen=True)
class Frame:
    """A frame of any size with three or four channels.

    flat: all its values, one after the other. height, width, channels and stride, the values of one
    row: int32 scalars.
    channels_of_rgb: where red, green and blue are in a pixel.
    """

    flat: Value
    height: Value
    width: Value
    channels: Value
    stride: Value
    channels_of_rgb: tuple[int, int, int]

    @classmethod
    def of(cls, frame: Value, color_order: str, fixed_hw: tuple[int, int] | None) -> Frame:
        """frame: (H, W, 3 or 4) uint8, "rgb" or "bgr", alpha last; (*fixed_hw, 3) if given."""
        graph = frame.graph
        if fixed_hw is None:
            shape = graph.op("Shape", frame, dtype=np.int64).to(np.int32)
        else:
            shape = graph.constant([*fixed_hw, 3], np.int32)
        height, width, channels = (shape.gather(axis, 0) for axis in range(3))
        order = (0, 1, 2) if color_order == "rgb" else (2, 1, 0)
        return cls(frame.reshape(-1), height, width, channels, width * channels, order)

    def channel_offsets(self, color_order: str) -> np.ndarray:
        """(3, 1, 1): where the channels of a model are in a pixel."""
        order = self.channels_of_rgb if color_order == "rgb" else self.channels_of_rgb[::-1]
        return np.array(order, np.int32)[:, None, None]

    def look_up(self, places: Value, *shape: int) -> Value:
        """The grey levels at int32 indices into `flat`, as float32 in `shape`, which is theirs."""
        # Along the one axis of one dimension: onnxruntime's fastest look-up on the CPU.
        found = self.flat.graph.op("GatherElements", self.flat, places.reshape(-1), axis=0)
        return found.to(np.float32).reshape(*shape)
