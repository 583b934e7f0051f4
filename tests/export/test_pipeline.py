"""A tiny variant through the whole flow, and what the checks at its end refuse."""

import hashlib
import re
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.errors import CheckpointError, ConfigError, ExportError
from cigpose_export.graph import simplify as simplify_module
from cigpose_export.graph.opset import IR_VERSION, OPSET
from cigpose_export.graph.simplify import simplify
from cigpose_export.graph.stamp import stamp
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.pipeline import check_artefact, clear_cases, export_model
from cigpose_export.reference.run import intervention_margin, run_reference
from cigpose_runtime import METADATA_KEY, MetadataError, OnnxFileError, read_contract
from cigpose_runtime.estimation.ort import ort
from cigpose_verify.measures import tolerances
from cigpose_verify.measures.tolerances import compare
from cigpose_verify.stages.structure import MAX_NODES
from tiny_project import make_tiny_project, tiny_name

DATASETS = ("coco-wholebody", "coco", "crowdpose")


class Made:
    """A tiny variant's artefact, with all that it was made from."""

    def __init__(self, root, dataset):
        self.project = make_tiny_project(root, dataset)
        (self.variant,) = self.project.select([tiny_name(dataset)])
        self.path = root / "out" / f"{self.variant.name}.onnx"
        self.stages = []
        self.exported = export_model(
            self.project,
            self.variant,
            weights="synthetic",
            checkpoint_path=None,
            target=self.path,
            on_stage=self.stages.append,
        )
        self.contract = read_contract(self.path)
        checkpoint = load_checkpoint(self.project.checkpoint_path(self.variant.name, "synthetic"))
        self.estimator = build_reference(load_config(self.project.config_path(self.variant.name)))
        load_weights(self.estimator, checkpoint)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("coco"), "coco")


@pytest.fixture(scope="module", params=DATASETS)
def made_of_each_set(request, tmp_path_factory):
    return Made(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_onnxruntime_agrees_with_the_reference(made_of_each_set, batch):
    made = made_of_each_set
    images = clear_cases(made.contract, made.estimator, count=batch)
    session = ort.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    outputs = session.run(["simcc_x", "simcc_y"], {"input": images})
    reference = run_reference(made.estimator, images)
    for name, output in zip(("simcc_x", "simcc_y"), outputs, strict=True):
        agreement = compare(output, getattr(reference, name))
        assert agreement.holds, agreement


def test_stages_come_in_the_order_of_the_flow(made):
    assert made.stages == ["synthesize", "load", "graph", "simplify", "check"]


def test_export_reports_what_it_wrote(made):
    data = made.path.read_bytes()
    assert made.exported.sha256 == hashlib.sha256(data).hexdigest()
    assert made.exported.size == len(data)
    assert made.exported.nodes == len(onnx.load(made.path).graph.node)


def test_artefact_has_the_pinned_versions_and_free_batch_alone(made):
    model = onnx.load(made.path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    session = ort.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    assert [(v.name, v.shape) for v in session.get_inputs()] == [("input", ["batch", 3, 256, 192])]
    assert [(v.name, v.shape) for v in session.get_outputs()] == [
        ("simcc_x", ["batch", 17, 384]),
        ("simcc_y", ["batch", 17, 512]),
    ]


def test_artefact_holds_no_paths_traces_or_foreign_metadata(made):
    data = made.path.read_bytes()
    for trace in (b"site-packages", b"pkg.torch", b"onnxsim.", str(made.project.root).encode()):
        assert trace not in data.replace(made.contract.to_json().encode(), b"")
    model = onnx.load(made.path)
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    assert not re.search(rb"/[a-z]+/[a-z]+/[\w./]+\.py", data)


def test_contract_says_what_the_config_and_checkpoint_say(made):
    contract = made.contract
    assert (contract.name, contract.weights) == (made.variant.name, "synthetic")
    assert contract.source_checkpoint.sha256 == made.exported.checkpoint_sha256
    assert contract.source_checkpoint.file == f"{made.variant.name}.pth"
    assert (contract.input_w, contract.input_h, contract.split_ratio) == (192, 256, 2.0)
    assert contract.mean == (123.675, 116.28, 103.53)
    assert contract.std == (58.395, 57.12, 57.375)
    assert (contract.color_order, contract.box_padding) == ("rgb", 1.25)
    assert dict(contract.tools).keys() >= {"torch", "onnx", "onnxsim", "mmpose"}


def test_stamp_clears_doc_strings_and_metadata_at_every_depth(made):
    model = onnx.load(made.path)
    marked = [
        model,
        model.graph,
        model.graph.node[0],
        model.graph.input[0],
        model.graph.initializer[0],
    ]
    for message in marked:
        message.doc_string = "from /somewhere/else.py"
        entry = message.metadata_props.add()
        entry.key, entry.value = "pkg.trace", "from /somewhere/else.py"
    model.graph.node[0].attribute.add(name="note", type=onnx.AttributeProto.INT, doc_string="from")
    data = stamp(model, made.contract)
    assert b"/somewhere/else.py" not in data
    assert b"pkg.trace" not in data


def edited(made, edit):
    """The artefact's bytes after an edit of its model."""
    model = onnx.load(made.path)
    edit(model)
    return model.SerializeToString()


def perturb_one_weight(model):
    producers = {name: node for node in model.graph.node for name in node.output}
    product = producers[producers["simcc_x"].input[0]]
    tensor = next(t for t in model.graph.initializer if t.name == product.input[1])
    values = numpy_helper.to_array(tensor).copy()
    values[3, 100] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def round_weights_to_half(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def drop_the_intervention(model):
    where = next(node for node in model.graph.node if node.op_type == "Where")
    where.op_type = "Identity"
    del where.input[:2]


def remove_one_graph_edge(model):
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [17, 38])
    values = numpy_helper.to_array(tensor).copy()
    values[:, 5] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def swap_the_outputs_of_two_keypoints(model):
    model.graph.node.append(onnx.helper.make_node("Gather", ["kept", "order"], ["simcc_x"], axis=1))
    order = [1, 0, *range(2, 17)]
    model.graph.initializer.append(numpy_helper.from_array(np.array(order), "order"))
    for node in model.graph.node[:-1]:
        node.output[:] = ["kept" if name == "simcc_x" else name for name in node.output]


@pytest.mark.parametrize(
    "fault",
    [
        perturb_one_weight,
        round_weights_to_half,
        drop_the_intervention,
        remove_one_graph_edge,
        swap_the_outputs_of_two_keypoints,
    ],
)
def test_a_graph_that_computes_something_else_is_refused(made, fault):
    with pytest.raises(ExportError, match="difference"):
        check_artefact(edited(made, fault), made.contract, made.estimator)


def test_what_rounding_explains_is_no_difference(made, monkeypatch):
    monkeypatch.setattr(tolerances, "RELATIVE_TOLERANCE", 1e-9)
    check_artefact(edited(made, lambda model: None), made.contract, made.estimator)
    with pytest.raises(ExportError, match="difference"):
        check_artefact(edited(made, perturb_one_weight), made.contract, made.estimator)


def test_the_unedited_artefact_passes_the_same_check(made):
    check_artefact(edited(made, lambda model: None), made.contract, made.estimator)


def add_nonzero(model):
    model.graph.node.append(onnx.helper.make_node("NonZero", ["input"], ["somewhere"]))


def add_many_nodes(model):
    for index in range(MAX_NODES):
        model.graph.node.append(onnx.helper.make_node("Identity", ["input"], [f"copy_{index}"]))


def claim_a_wrong_output_type(model):
    node = next(node for node in model.graph.node if node.output[0] == "simcc_x")
    node.op_type, node.output[0] = "Equal", "simcc_x"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (add_nonzero, "found NonZero"),
        (add_many_nodes, f"at most {MAX_NODES} nodes"),
        (claim_a_wrong_output_type, "onnx.checker refuses"),
    ],
)
def test_an_ill_formed_graph_is_refused(made, fault, message):
    with pytest.raises(ExportError, match=message):
        check_artefact(edited(made, fault), made.contract, made.estimator)


def state_another_split_ratio(model):
    entry = model.metadata_props[0]
    entry.value = entry.value.replace('"split_ratio":2.0', '"split_ratio":1.0')


def state_another_mean(model):
    entry = model.metadata_props[0]
    entry.value = entry.value.replace("123.675", "103.53")


def use_a_custom_operator(model):
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.node[0].domain = "com.example"


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (state_another_split_ratio, MetadataError, "contradicts the graph"),
        (state_another_mean, ExportError, "contract read back differs"),
        (use_a_custom_operator, OnnxFileError, "com.example"),
    ],
)
def test_a_file_that_says_something_else_is_refused(made, fault, error, message):
    with pytest.raises(error, match=message):
        check_artefact(edited(made, fault), made.contract, made.estimator)


def test_a_failed_check_leaves_the_artefact_that_was_there(tmp_path, monkeypatch):
    project = make_tiny_project(tmp_path)
    (variant,) = project.select([tiny_name()])
    target = tmp_path / "out" / "artefact.onnx"
    target.parent.mkdir()
    target.write_bytes(b"what was there")

    def refuse(*_):
        raise ExportError("seeded")

    monkeypatch.setattr("cigpose_export.pipeline.check_artefact", refuse)
    with pytest.raises(ExportError, match="seeded"):
        export_model(
            project,
            variant,
            weights="synthetic",
            checkpoint_path=None,
            target=target,
            on_stage=lambda _: None,
        )
    assert target.read_bytes() == b"what was there"
    assert list(target.parent.iterdir()) == [target]


def export_with(project, weights, **changes):
    (variant,) = project.select([tiny_name()])
    arguments = dict(
        weights=weights,
        checkpoint_path=None,
        target=project.root / "out" / "artefact.onnx",
        on_stage=lambda _: None,
    )
    return export_model(project, variant, **{**arguments, **changes})


def test_synthetic_weights_never_pass_for_real_ones(made, tmp_path):
    synthetic = made.project.checkpoint_path(made.variant.name, "synthetic")
    with pytest.raises(CheckpointError, match="expected real weights, found synthetic"):
        export_with(make_tiny_project(tmp_path), "real", checkpoint_path=synthetic)
    assert not (tmp_path / "out").exists()


def test_a_config_that_contradicts_its_name_is_refused(tmp_path):
    project = make_tiny_project(tmp_path)
    size = "input_size=(192, 256)"
    base = project.root / "configs" / "_base_" / "cigpose.py"
    assert size in base.read_text()
    base.write_text(base.read_text().replace(size, "input_size=(288, 384)"))
    with pytest.raises(ConfigError, match="expected keypoints, width and height"):
        export_with(project, "synthetic")


def test_cases_are_the_clearest_of_those_drawn(made):
    images = clear_cases(made.contract, made.estimator, count=4)
    margins = intervention_margin(made.estimator, run_reference(made.estimator, images))
    fewer = clear_cases(made.contract, made.estimator, count=2)
    assert len(margins) == 4
    assert len(fewer) == 2
    assert margins[0] > 0
    assert (np.diff(margins) >= 0).all()


@pytest.fixture
def onnxsim_as(monkeypatch, tmp_path):
    """Puts a shell script in place of the Python that runs onnxsim."""

    def replace(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


def test_a_crash_of_onnxsim_is_an_error(made, onnxsim_as):
    onnxsim_as("echo boom >&2; kill -SEGV $$")
    with pytest.raises(ExportError, match=r"status -11 \(boom\)"):
        simplify(onnx.load(made.path))


def test_a_hang_of_onnxsim_is_an_error(made, onnxsim_as, monkeypatch):
    onnxsim_as("exec sleep 60")
    monkeypatch.setattr(simplify_module, "TIMEOUT_S", 0.2)
    with pytest.raises(ExportError, match="did not finish"):
        simplify(onnx.load(made.path))
