"""The worst crop of a verdict, for drawing: PyTorch's keypoints and ours, and their vectors."""

from __future__ import annotations

import base64
import io
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cigpose_runtime import Contract
from cigpose_verify.cases import Case
from cigpose_verify.measures.keypoints import Readout
from cigpose_verify.reference_record import Candidate, Outputs, Recorded
from cigpose_verify.report.document import PICTURE, Figure, Pictured, Worst, figure


class WorstRow(Protocol):
    """What of a row of the matrix is drawn."""

    @property
    def recorded(self) -> Recorded: ...
    @property
    def candidate(self) -> Candidate: ...
    @property
    def setting(self) -> str: ...
    @property
    def error(self) -> float: ...


def picture_worst(row: WorstRow, outputs: Outputs, contract: Contract) -> Worst:
    """Describes one row and its outputs, its keypoints by their vectors' largest difference."""
    ours, there = Readout.of(*outputs.vectors), row.candidate.said
    differences = [
        np.abs(a.astype(np.float64) - b).max(axis=1)
        for a, b in zip(outputs.vectors, row.candidate.single.vectors, strict=True)
    ]
    order = np.argsort(-np.nan_to_num(np.maximum(*differences), nan=np.inf), kind="stable")
    keypoints = tuple(
        Pictured(
            keypoint=int(k),
            name=contract.keypoint_names[k],
            torch_xy=_xy(there.bins[k], contract.split_ratio),
            onnx_xy=_xy(ours.bins[k], contract.split_ratio),
            torch_score=figure(float(there.scores[k])),
            onnx_score=figure(float(ours.scores[k])),
        )
        for k in order
    )
    first = order[0]
    return Worst(
        case=row.recorded.case.name,
        setting=row.setting,
        error=figure(row.error),
        picture=_data_uri(row.recorded.case, contract),
        input_wh=(contract.input_w, contract.input_h),
        split_ratio=contract.split_ratio,
        skeleton=contract.skeleton,
        keypoints=keypoints,
        vectors={
            "torch_x": _figures(row.candidate.single.simcc_x[first]),
            "onnx_x": _figures(outputs.simcc_x[first]),
            "torch_y": _figures(row.candidate.single.simcc_y[first]),
            "onnx_y": _figures(outputs.simcc_y[first]),
        },
    )


def _xy(bins: NDArray[np.intp], split_ratio: float) -> tuple[float, float]:
    x, y = (bins / split_ratio).tolist()
    return x, y


def _figures(values: NDArray[np.floating]) -> tuple[Figure, ...]:
    return tuple(figure(float(value)) for value in values)


def _data_uri(case: Case, contract: Contract) -> str:
    """A case's input as a JPEG, its normalisation undone."""
    mean, std = np.array([contract.mean, contract.std])[:, :, None, None]
    levels = np.clip(np.rint(case.input * std + mean), 0, 255).astype(np.uint8)
    if contract.color_order == "bgr":
        levels = levels[::-1]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0))).save(file, "JPEG", quality=85)
    return PICTURE + base64.b64encode(file.getvalue()).decode()
