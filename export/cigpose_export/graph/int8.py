"""The graph with its backbone in 8 bits, by onnxruntime's static quantizer."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx

from cigpose_runtime.arrays import Floats
from cigpose_runtime.estimation.ort import ort

assert ort  # imported first: it switches the telemetry off

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


def to_int8(model: onnx.ModelProto, crops: Iterable[Floats]) -> onnx.ModelProto:
    """The graph with activations in uint8 and weights in int8, by channel, before its head.

    crops: inputs (3, h, w) whose values tell how far each tensor goes; the same ones in the same
    order give the same graph. What follows the first Reshape, the head, stays float32: with it
    in int8, half of the choices of the keypoint to replace change (docs/precision.md).
    """
    nodes = [node.op_type for node in model.graph.node]
    head = [node.name for node in model.graph.node[nodes.index("Reshape") :]]
    with tempfile.TemporaryDirectory() as folder, _silent():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            target,
            _Crops(crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=head,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE, "CalibMaxIntermediateOutputs": 4},
        )
        return onnx.load(target)


class _Crops(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, crops: Iterable[Floats]) -> None:
        self._crops = iter(crops)

    def get_next(self) -> dict[str, Floats] | None:
        crop = next(self._crops, None)
        return None if crop is None else {"input": crop[None]}


@contextlib.contextmanager
def _silent():
    """Without what the quantizer prints, and its advice to preprocess, which changes the graph."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
