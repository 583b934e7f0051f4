"""The graph with its backbone in 8 bits, by onnxruntime's static quantizer."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from cigpose_export.errors import ExportError
from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation import ort as _telemetry_off_first
from cigpose_verify.reduced.quantisation import nodes_of_head

assert _telemetry_off_first

from onnxruntime.quantization import (  # noqa: E402, TID251
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

OPERATORS = ["Conv", "Sigmoid", "Mul", "Add", "Concat", "MaxPool"]

PERCENTILE = 99.99
"""Of the values of a tensor, the share that its 8 bits reach; the rest saturates."""

_ONE_BY_ONE = {"CalibStridedMinMax": 1}
"""Not only of MinMax, for all its name: otherwise the values of all batches are kept until the end,
of 200 crops of cigpose-m_coco-wholebody_256x192 in 18 GB."""


def to_int8(model: onnx.ModelProto, batches: Sequence[Floats]) -> onnx.ModelProto:
    """The graph with activations in uint8 and weights in int8, by channel, before its head.

    batches: inputs (B, 3, h, w) that tell how far each tensor goes; the same ones in the same order
    give the same graph. Weights take 7 of their bits: processors without VNNI add products in 16
    bits, which saturate otherwise, and nothing says so. The head stays float32: with it in int8,
    half of the choices of the keypoint to replace change (docs/precision.md). Raises `ExportError`
    for a graph whose head cannot be told.
    """
    if not (head := nodes_of_head(model.graph)):
        raise ExportError("expected a Reshape where the head begins, found none; export it in fp32")
    with tempfile.TemporaryDirectory() as folder, _silent():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=head,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE, **_ONE_BY_ONE},
        )
        return onnx.load(target)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Sequence[Floats]) -> None:
        self._batches = batches
        self._next = range(0)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next = range(start_index, end_index)

    def get_next(self) -> dict[str, Floats] | None:
        if not self._next:
            return None
        place, self._next = self._next[0], self._next[1:]
        return {"input": self._batches[place]}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what the quantizer prints, and its advice to preprocess, which changes the graph."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
