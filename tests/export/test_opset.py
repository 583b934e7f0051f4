"""Forms that other engines need: what the graph looks like, and that nothing else changes."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cigpose_export.checkpoints.synthesize import draw_values
from cigpose_export.errors import ExportError
from cigpose_export.graph.opset import OPSET, to_opset_17
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.translate import export_graph
from cigpose_export.modeling import dense_cig
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.modeling.cig_head import confound_score
from cigpose_export.modeling.dense import lower
from cigpose_export.modeling.dense_cig import DenseCigHead, DenseIntervention
from cigpose_runtime.estimation.ort import ort
from small_head import make_head
from tiny_project import make_tiny_project, tiny_name


@pytest.fixture(scope="module", params=["coco", "crowdpose"])
def graphs(request, tmp_path_factory):
    """A tiny model's graph before and after; crowdpose's has two equal constants."""
    project = make_tiny_project(tmp_path_factory.mktemp(request.param), request.param)
    (variant,) = project.select([tiny_name(request.param)])
    estimator = build_reference(load_config(project.config_path(variant.name)))
    draw_values(estimator, "0")
    graph = export_graph(lower(estimator), input_h=variant.input_h, input_w=variant.input_w)
    simplified = simplify(graph)
    before = onnx.ModelProto()
    before.CopyFrom(simplified)
    return before, to_opset_17(simplified)


def outputs(model, people):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = (
        people,
        *(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]),
    )
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return session.run(None, {"input": image})


@pytest.mark.parametrize("people", [0, 1, 3])
def test_outputs_are_bit_identical(graphs, people):
    before, after = graphs
    for old, new in zip(outputs(before, people), outputs(after, people), strict=True):
        np.testing.assert_array_equal(old, new)


def test_reductions_have_their_axes_as_attributes(graphs):
    _, after = graphs
    reductions = [
        n for n in after.graph.node if n.op_type in ("ReduceL2", "ReduceMax", "ReduceMean")
    ]
    assert reductions
    for node in reductions:
        assert len(node.input) == 1
        assert "axes" in {attribute.name for attribute in node.attribute}
    onnx.checker.check_model(after, full_check=True)
    assert [o.version for o in after.opset_import] == [OPSET]


def test_no_constant_feeds_two_matrix_products(graphs):
    _, after = graphs
    constants = {tensor.name for tensor in after.graph.initializer}
    used = [i for n in after.graph.node if n.op_type == "MatMul" for i in n.input if i in constants]
    assert used
    assert len(used) == len(set(used))


def test_no_constant_is_left_over(graphs):
    _, after = graphs
    used = {name for node in after.graph.node for name in node.input}
    assert {tensor.name for tensor in after.graph.initializer} <= used


def test_hard_sigmoids_are_clips(graphs):
    before, _ = graphs
    assert "HardSigmoid" not in {node.op_type for node in before.graph.node}


def test_an_operator_that_opset_17_reads_otherwise_is_refused():
    node = helper.make_node("Pad", ["x", "pads"], ["y"], name="pad")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.array([0, 0, 0, 1]), "pads")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(ExportError, match="Pad has another meaning in opset 17"):
        to_opset_17(model)


def test_scaling_the_features_changes_no_digit(monkeypatch):
    head = make_head()
    draw_values(head, "0")
    features = torch.randn(2, 24, 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scaled = DenseCigHead(head)((features,))
        monkeypatch.setattr(dense_cig, "FEATURE_SCALE", 1.0)
        unscaled = DenseCigHead(head)((features,))
    for one, other in zip(scaled, unscaled, strict=True):
        assert torch.equal(one, other)


def test_small_peaks_are_ranked_by_what_a_confound_score_rounds_off():
    head = make_head()
    cim = DenseIntervention(head.cim)
    features = torch.zeros(1, 17, 32)
    # 200 bins: peaks near 0.005. Keypoint 5 has the lowest by 2 parts in a million.
    logits = torch.zeros(1, 17, 200)
    logits[..., 0] = 2e-6
    logits[0, 5, 0] = 0
    assert confound_score(logits, logits)[0].unique().numel() == 1  # all alike in float32
    with torch.no_grad():
        replaced = cim(features, logits, logits).abs().sum(dim=-1)[0].nonzero().flatten().tolist()
    assert replaced == [5]
