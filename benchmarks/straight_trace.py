"""The peer of `make bench`: the reference model traced as it is, only the blockers patched.

That is how the head gets exported without a dense form: the TorchScript exporter, with the two
operations that it cannot translate replaced by ones that it can. Nothing ships from here.

`python benchmarks/straight_trace.py NAME FILE` writes the trace and prints its figures.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.translate import EXPORTER_OPSET
from cigpose_export.jobs.worker import peak_memory
from cigpose_export.modeling import cig_head
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.project import Project
from cigpose_export.reference.run import Reference


class _FloatScatterIntervention(cig_head.CausalIntervention):
    """The exporter has no scatter into booleans."""

    def choose(self, score: Tensor) -> Tensor:
        worst = score.topk(self.intervention_k_val, dim=1).indices
        return torch.zeros_like(score).scatter(1, worst, 1.0) > 0


class _ScatterAddEdgeConv(cig_head.EdgeConv):
    """The exporter's index_add takes no repeated indices."""

    def sum_at(self, receiver: Tensor, messages: Tensor, nodes: int) -> Tensor:
        out = messages.new_zeros(messages.shape[0], nodes, messages.shape[-1])
        return out.scatter_add(1, receiver[None, :, None].expand_as(messages), messages)


PATCHES = {
    cig_head.CausalIntervention: _FloatScatterIntervention,
    cig_head.EdgeConv: _ScatterAddEdgeConv,
}


def straight_trace(project: Project, name: str, path: Path) -> int:
    """Writes the simplified trace of a variant's synthetic checkpoint; returns its node count."""
    (variant,) = project.select([name])
    checkpoint = load_checkpoint(project.existing_checkpoint(name, "synthetic"))
    estimator = build_reference(load_config(project.config_path(name)))
    load_weights(estimator, checkpoint)
    for module in estimator.modules():
        if type(module) in PATCHES:
            module.__class__ = PATCHES[type(module)]
    example = torch.zeros(1, 3, variant.input_h, variant.input_w)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Reference(estimator),
            (example,),
            str(path),
            input_names=["input"],
            output_names=["simcc_x", "simcc_y"],
            opset_version=EXPORTER_OPSET,
            dynamo=False,
        )
    simplified = simplify(onnx.load(path))
    onnx.save(simplified, path)
    return len(simplified.graph.node)


if __name__ == "__main__":
    nodes = straight_trace(Project.of_this_clone(), sys.argv[1], Path(sys.argv[2]))
    print(json.dumps({"nodes": nodes, "peak_memory": peak_memory()}))  # noqa: T201
