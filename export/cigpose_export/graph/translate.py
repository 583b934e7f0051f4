"""From the dense PyTorch model to an ONNX graph, with the torch.export-based exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn

EXPORTER_OPSET = 18
"""The exporter's own lowest opset: it converts no version itself. See opset.py for what ships."""


def export_graph(model: nn.Module, *, input_h: int, input_w: int) -> onnx.ModelProto:
    """Exports image (batch,3,h,w) -> `simcc_x`, `simcc_y` with a free batch dimension."""
    return export_program(model, input_h=input_h, input_w=input_w).model_proto


def export_program(model: nn.Module, *, input_h: int, input_w: int) -> torch.onnx.ONNXProgram:
    """As `export_graph`, together with the PyTorch program that the graph is translated from."""
    # Two people: torch.export specialises on a batch of one.
    example = torch.zeros(2, 3, input_h, input_w)
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["input"],
            output_names=["simcc_x", "simcc_y"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=EXPORTER_OPSET,
            dynamo=True,
            optimize=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's progress chatter and its warnings about itself off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
