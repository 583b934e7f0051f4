"""What each tensor of the exported graph is in PyTorch, by the names that the exporter keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cigpose_export.graph.translate import export_program
from cigpose_export.modeling.dense import lower
from cigpose_export.project import Model, Project
from cigpose_export.reference.load import load_reference
from cigpose_verify.cases import Case, make_cases
from cigpose_verify.diverge import Trace, Traced, sample_of


def trace_model(
    project: Project,
    model: Model,
    *,
    checkpoint_path: Path,
    weights_key: str | None = None,
    images: Path | None,
    case: str,
    target: Path,
) -> None:
    """Traces one case, by its name, of those that `record_model` records."""
    reference = load_reference(project, model, checkpoint_path, weights_key=weights_key)
    (chosen,) = (c for c in make_cases(reference.contract(), images) if c.name == case)
    trace(lower(reference.estimator), chosen).write(target)


def trace(model: nn.Module, case: Case) -> Trace:
    """Runs one case through the program that the graph is translated from, node by node."""
    _, input_h, input_w = case.input.shape
    program = export_program(model, input_h=input_h, input_w=input_w).exported_program
    assert program is not None
    recorder = _Recorder(program.module())
    image = case.input[np.newaxis]
    with torch.inference_mode():
        outputs = recorder.run(torch.from_numpy(image))
    traced = list(recorder.tensors)
    for name, output in zip(("simcc_x", "simcc_y"), outputs, strict=True):
        traced.append(_traced(name, "head", output))
    return Trace(case.name, image, tuple(traced))


class _Recorder(torch.fx.Interpreter):
    def __init__(self, program: Any) -> None:
        super().__init__(program)
        self.tensors: list[Traced] = []

    def run_node(self, node: torch.fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, Tensor) and result.is_floating_point():
            stack = node.meta.get("nn_module_stack") or {"": ("", None)}
            path, _ = list(stack.values())[-1]
            self.tensors.append(_traced(node.name, path, result))
        return result


def _traced(name: str, module: str, tensor: Tensor) -> Traced:
    array = tensor.numpy()
    return Traced(name, module, array.shape, sample_of(array))
