"""The form for engines that cannot run the default file: what is in it, and what it answers."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cigpose_export.checkpoints.synthesize import draw_values
from cigpose_export.cli import main as cli
from cigpose_export.errors import ExportError
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.opset import to_opset_17
from cigpose_export.graph.portable import GAIN, MOST_BINS, to_portable
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.translate import export_graph
from cigpose_export.modeling.dense_cig import DenseCigHead
from cigpose_runtime import PoseModel, read_contract
from cigpose_runtime.estimation.ort import ort
from cigpose_verify.measures.tolerances import compare
from cigpose_verify.stages.choice import choosing_part, find_intervention
from small_head import make_head

WITHOUT = {"TopK", "Equal", "Where", "Gather", "ReduceSum", "ReduceL2", "ReduceMax", "Cast"}


@pytest.fixture(scope="module")
def model(tiny_path):
    return onnx.load(tiny_path)


def run(model, feed):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def pictures(model, people):
    size = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(people).standard_normal((people, *size), dtype=np.float32)


@pytest.mark.parametrize("people", [1, 3])
def test_it_answers_what_the_standards_own_evaluator_makes_of_the_default_graph(model, people):
    feed = {"input": pictures(model, people)}
    expected = ReferenceEvaluator(model).run(None, feed)
    for ours, theirs in zip(run(to_portable(model, people), feed), expected, strict=True):
        assert compare(ours, theirs).holds
        np.testing.assert_array_equal(ours.argmax(axis=2), theirs.argmax(axis=2))


def test_it_has_no_integers_but_sizes_and_none_of_the_operators_that_engines_lack(model):
    portable = to_portable(model, 2)
    onnx.checker.check_model(portable, full_check=True)
    assert not WITHOUT & {node.op_type for node in portable.graph.node}
    inferred = onnx.shape_inference.infer_shapes(portable, strict_mode=True).graph
    types = {value.type.tensor_type.elem_type for value in inferred.value_info}
    assert types == {TensorProto.FLOAT}
    for value in (*portable.graph.input, *inferred.value_info, *portable.graph.output):
        assert all(dim.dim_value for dim in value.type.tensor_type.shape.dim), value.name
        assert value.type.tensor_type.shape.dim[0].dim_value == 2


def test_it_has_no_constant_too_many_and_none_that_two_products_share(model):
    graph = to_portable(model, 1).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert constants <= {name for node in graph.node for name in node.input}
    products = [n for node in graph.node if node.op_type == "MatMul" for n in node.input]
    shared = [name for name in products if name in constants]
    assert len(shared) == len(set(shared))


# The choice


@pytest.fixture(scope="module")
def three():
    """The graph of a small head that replaces three keypoints: 3 channels of features, 8 times."""
    head = make_head(k=3)
    draw_values(head, "0")

    class OfPicture(DenseCigHead):
        def forward(self, image):
            return super().forward((image.repeat(1, 8, 1, 1),))

    return to_opset_17(simplify(export_graph(OfPicture(head), input_h=3, input_w=2)))


@pytest.fixture(params=[1, 3])
def choice(request, model, three):
    """k, and the part of a portable graph that chooses as many, with what goes in and comes out."""
    portable = to_portable({1: model, 3: three}[request.param], 1)
    found = find_intervention(portable.graph)
    return request.param, onnx.load_from_string(choosing_part(portable, found)), found


def smallest(ranked, k):
    """1 for the k smallest of each row, of equal ones the first, else 0."""
    chosen = np.zeros_like(ranked)
    np.put_along_axis(chosen, np.argsort(ranked, axis=1, kind="stable")[:, :k], 1, axis=1)
    return chosen


def close_values(count, bins=192):
    """Sums of two peaks (n, count): equal, neighbours in float32, and others, at both ends."""
    rng, rows = np.random.default_rng(1), []
    for end in (2 / bins, 2 / MOST_BINS, 0.3, 2.0):
        near = np.float32(end) * (1 + np.spacing(np.float32(1)) * np.arange(-1, 2, dtype="f4"))
        rows += [rng.choice(near, (40, count)), rng.choice([end, 1.0], (40, count))]
    rows += [np.full((1, count), 0.5), rng.uniform(0.01, 2, (40, count))]
    return np.concatenate(rows).astype(np.float32)


def test_it_chooses_the_smallest_and_of_equal_ones_the_first(choice):
    k, part, found = choice
    ranked = close_values(17)
    (mask,) = run(part, {found.ranked: ranked})
    np.testing.assert_array_equal(mask[..., 0], smallest(ranked, k))


def test_so_does_the_topk_of_the_default_graph(three):
    found, ranked = find_intervention(three.graph), close_values(17)
    (index,) = run(choosing_part(three, found), {found.ranked: ranked})
    chosen = np.zeros_like(ranked)
    np.put_along_axis(chosen, index, 1, axis=1)
    np.testing.assert_array_equal(chosen, smallest(ranked, 3))


def test_no_number_of_the_choice_leaves_the_range_of_float16(choice):
    _, part, found = choice
    del part.graph.output[:]
    names = [name for node in part.graph.node for name in node.output]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = run(part, {found.ranked: close_values(17)})
    assert max(np.abs(value).max() for value in values) <= 2 * GAIN
    assert max(np.abs(numpy_helper.to_array(t)).max() for t in part.graph.initializer) == GAIN


def test_in_float16_it_chooses_by_what_float16_tells_apart(choice):
    k, part, found = choice
    for tensor in part.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    ranked = np.random.default_rng(0).uniform(0.01, 2, (200, 17)).astype(np.float16)
    (mask,) = ReferenceEvaluator(part).run(None, {found.ranked: ranked})
    assert mask.dtype == np.float16
    np.testing.assert_array_equal(mask[..., 0], smallest(ranked, k))


def test_every_float_constant_of_the_default_graph_is_kept_as_it_is(model, three):
    for default in (model, three):
        ours = {t.name: t for t in to_portable(default, 2).graph.initializer}
        for tensor in default.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                assert ours[tensor.name] == tensor


def test_a_head_of_several_replacements_answers_as_before(three):
    feed = {"input": pictures(three, 3)}
    for ours, theirs in zip(run(to_portable(three, 3), feed), run(three, feed), strict=True):
        assert compare(ours, theirs).holds


def test_an_intervention_of_another_kind_is_refused(model):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    where = next(node for node in changed.graph.node if node.op_type == "Where")
    threshold = numpy_helper.from_array(np.float32(0.1), "threshold")
    changed.graph.initializer.append(threshold)
    ranked = find_intervention(model.graph).ranked
    low = helper.make_node("Less", [ranked, "threshold"], ["low"])
    wide = helper.make_node("Unsqueeze", ["low", "last"], ["as_column"])
    changed.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    where.input[0] = "as_column"
    del changed.graph.node[[n.op_type for n in changed.graph.node].index("TopK")]
    changed.graph.node.extend([low, wide])
    with pytest.raises(ExportError, match="found another, which has no portable form"):
        to_portable(changed, 1)


def test_more_bins_than_the_choice_is_exact_for_are_refused(model):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output[1].type.tensor_type.shape.dim[2].dim_value = MOST_BINS + 1
    with pytest.raises(ExportError, match="expected at most 4096 bins for a portable file"):
        to_portable(changed, 1)


# The file


def test_a_portable_file_says_what_it_is_made_from_and_its_batch(tiny_path, tmp_path):
    targets = [tmp_path / "one.onnx", tmp_path / "other.onnx"]
    for target in targets:
        derive_file(tiny_path, "fp32", target, batch=3, on_stage=lambda _: None)
    assert targets[0].read_bytes() == targets[1].read_bytes()
    contract, whole = read_contract(targets[0]), read_contract(tiny_path)
    assert contract.artefact_name == f"{whole.name}_portable_b3"
    assert (contract.fixed_batch, whole.fixed_batch) == (3, None)
    assert replace(contract, schema_version=1, derived_from=None) == whole


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_runtime_finds_the_same_keypoints_of_any_number_of_people(
    tiny_path, tmp_path, batch, flip
):
    target = tmp_path / "portable.onnx"
    derive_file(tiny_path, "fp32", target, batch=batch, on_stage=lambda _: None)
    frame = np.random.default_rng(0).integers(256, size=(120, 160, 3), dtype=np.uint8)
    boxes = np.array([[10, 10, 60, 110], [50, 5, 150, 115], [0, 0, 160, 120], [30, 30, 90, 90.0]])
    ours, default = (PoseModel(some, flip=flip)(frame, boxes) for some in (target, tiny_path))
    np.testing.assert_array_equal(ours.keypoints, default.keypoints)
    np.testing.assert_allclose(ours.scores, default.scores, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "2"], "--batch N needs --target portable"),
        (["--target", "portable", "--precision", "fp16"], "--target portable is in float32"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny_project, capsys, options, message):
    (name,) = tiny_project.variants
    with pytest.raises(SystemExit) as ended:
        cli.main(["--project", str(tiny_project.root), "export", name, *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
