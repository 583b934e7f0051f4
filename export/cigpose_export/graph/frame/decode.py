"""From SimCC vectors to keypoints in the frame: cigpose_runtime.estimation.decode as a graph."""

from __future__ import annotations

import numpy as np

from cigpose_export.graph.frame.builder import Value
from cigpose_runtime import Contract


def average_flipped(simcc_x: Value, simcc_y: Value, contract: Contract) -> tuple[Value, Value]:
    """The mean of the vectors of crops and, after them in the batch, of their mirror images."""
    swapped = contract.keypoints.flip_indices
    x, x_flipped = _halves(simcc_x, contract, contract.input_w)
    y, y_flipped = _halves(simcc_y, contract, contract.input_h)
    x_back = x_flipped.gather(swapped, axis=1).mirrored()
    return (x + x_back) * 0.5, (y + y_flipped.gather(swapped, axis=1)) * 0.5


def _halves(both: Value, contract: Contract, side: int) -> tuple[Value, Value]:
    bins = int(side * contract.split_ratio)
    halves = both.reshape(2, -1, contract.num_keypoints, bins)
    return halves.gather(0, axis=0), halves.gather(1, axis=0)


def decode(
    simcc_x: Value, simcc_y: Value, centers: Value, scales: Value, contract: Contract
) -> tuple[Value, Value]:
    """As decode_simcc and to_frame: keypoints (people, K, 2) in frame pixels, scores (people, K).

    Overflowed peaks, which the runtime refuses, cannot be refused here.
    """
    graph = simcc_x.graph
    peak_x, peak_y = (simcc.reduce("ReduceMax", -1) for simcc in (simcc_x, simcc_y))
    scores = graph.where(peak_x > peak_y, peak_y, peak_x)
    highest = (
        graph.op("ArgMax", simcc, dtype=np.int64, axis=-1, keepdims=1).to(np.float32)
        for simcc in (simcc_x, simcc_y)
    )
    bins = graph.concat(list(highest), axis=-1)
    k = contract.num_keypoints
    is_found = (scores > 0).reshape(-1, k, 1)
    in_crop = graph.where(is_found, bins, -1) / contract.split_ratio
    center, scale = (corner.to(np.float64).reshape(-1, 1, 2) for corner in (centers, scales * 0.5))
    share = in_crop.to(np.float64) / [contract.input_w, contract.input_h]
    in_frame = share * scales.to(np.float64).reshape(-1, 1, 2) + center - scale
    return in_frame.to(np.float32), scores
