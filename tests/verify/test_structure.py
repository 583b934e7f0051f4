"""What makes a file well formed."""

import onnx
import pytest

from cigpose_runtime import parse_onnx
from cigpose_verify.stages.structure import FORBIDDEN_OPS, MAX_NODES, check_structure
from tiny_onnx import tiny_model


def problems_of(model):
    data = model.SerializeToString()
    return check_structure(data, parse_onnx(data))


def test_a_well_formed_model_has_no_problems():
    assert problems_of(tiny_model()) == []


@pytest.mark.parametrize("op", sorted(FORBIDDEN_OPS))
def test_each_forbidden_operator_is_named(op):
    model = tiny_model()
    model.graph.node.append(onnx.helper.make_node(op, ["input"], ["somewhere"]))
    assert any(f"found {op}" in problem for problem in problems_of(model))


def test_too_many_nodes_are_counted():
    model = tiny_model()
    before = len(model.graph.node)
    for index in range(MAX_NODES):
        model.graph.node.append(onnx.helper.make_node("Identity", ["input"], [f"copy_{index}"]))
    found = f"found {before + MAX_NODES}"
    expected = f"expected at most {MAX_NODES} nodes beside casts and quantisation, {found}"
    assert expected in problems_of(model)


def test_operators_of_onnxruntime_are_refused():
    model = tiny_model()
    node = onnx.helper.make_node("Gelu", ["input"], ["y"], domain="com.microsoft")
    model.graph.node.append(node)
    assert any("found com.microsoft.Gelu" in problem for problem in problems_of(model))


def test_all_problems_are_reported_at_once():
    model = tiny_model()
    model.graph.node.append(onnx.helper.make_node("NonZero", ["nowhere"], ["somewhere"]))
    problems = problems_of(model)
    assert any("onnx.checker refuses" in problem for problem in problems)
    assert any("found NonZero" in problem for problem in problems)
