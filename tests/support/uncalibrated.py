"""Models with random weights that nobody calibrated, and their files, many seeds of each.

Batch norms are as they come before training, and activations grow to 1e5 on the way through the
backbone: where such a sum meets a hard sigmoid's slope, rounding is seen in the outputs.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from cigpose_export.checkpoints.load import Checkpoint
from cigpose_export.checkpoints.synthesize import draw_values
from cigpose_export.graph.contract import build_contract
from cigpose_export.graph.opset import to_opset_17
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.stamp import stamp
from cigpose_export.graph.translate import export_graph
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.modeling.dense import lower

GAIN, TINY_GAIN = 1.7, 2.2
"""Of convolutions in the backbone: more than SiLU takes away. The tiny one has fewer layers."""


def uncalibrated(project, name, seed, gain=GAIN):
    """The estimator of a variant with seeded weights."""
    estimator = build_reference(load_config(project.config_path(name)))
    with torch.no_grad():
        draw_values(estimator, f"{seed}/{name}")
        for path, module in estimator.named_modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.fill_(1)
                module.running_mean.zero_()
                module.running_var.fill_(1)
            elif isinstance(module, nn.Conv2d) and path.startswith("backbone."):
                module.weight.mul_(gain)
    return estimator


class Exported:
    """The file of a variant with the weights of one seed; those of other seeds follow at once."""

    def __init__(self, project, name, seed=0, gain=GAIN):
        self.project, self.name, self.gain = project, name, gain
        variant, config = project.variants[name], load_config(project.config_path(name))
        checkpoint = Checkpoint(Path("uncalibrated.pth"), "0" * 64, "synthetic", {})
        self.contract = build_contract(variant, config, checkpoint)
        dense = lower(self.estimator(seed))
        graph = export_graph(dense, input_h=self.contract.input_h, input_w=self.contract.input_w)
        self.state, self.graph = arrays_of(dense), to_opset_17(simplify(graph))

    def estimator(self, seed):
        return uncalibrated(self.project, self.name, seed, self.gain)

    def data(self, estimator):
        """The bytes of the file with the weights of this estimator."""
        state, places = arrays_of(lower(estimator)), {}
        for key, there in self.state.items():
            pairs = [(there, state[key]), (there.T, state[key].T)]
            if key.endswith((".gamma", ".beta")):  # of queries and of keys, one row each
                pairs += zip(there, state[key], strict=True)
            for old, new in pairs:
                places[old.shape, old.tobytes()] = np.ascontiguousarray(new)
        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if (found := places.get((array.shape, array.tobytes()))) is not None:
                tensor.CopyFrom(numpy_helper.from_array(found, tensor.name))
        return stamp(graph, self.contract)


def arrays_of(module):
    return {key: tensor.numpy() for key, tensor in module.state_dict().items()}
