"""Packed files are held to the runtime bit by bit, and every seeded fault is rejected."""

import contextlib
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigpose_export.cli import main as cli
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.frame.assemble import FixedSize, assemble
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_runtime import parse_onnx, read_contract
from cigpose_runtime.model_file.frame_contract import FRAME_METADATA_KEY, frame_contract_of
from cigpose_runtime.releases.selftest import selftest
from cigpose_verify.packed.golden import write_packed_golden
from cigpose_verify.packed.judge import Campaign, judge_packed
from cigpose_verify.report.document import Report
from packing import frame_contract, packed, save
from tiny_yolox import yolox

FAULTS = {}
"""name -> (whether of a flip test, fault)."""


def fault(name, *, flip=False):
    def add(function):
        FAULTS[name] = flip, function
        return function

    return add


# What the graph does, beside what it says: each returns a contract to do otherwise by.


@fault("less padding around boxes")
def _(contract):
    return replace(contract, model=replace(contract.model, box_padding=1.2))


@fault("another split ratio")
def _(contract):
    return replace(contract, model=replace(contract.model, split_ratio=2.5))


@fault("the colour order of frames")
def _(contract):
    return replace(contract, frame_color_order="bgr")


@fault("mean and std swapped")
def _(contract):
    inner = contract.model
    return replace(contract, model=replace(inner, mean=inner.std, std=inner.mean))


@fault("one flip pair left out", flip=True)
def _(contract):
    pairs = contract.model.flip_pairs[:-1]
    return replace(contract, model=replace(contract.model, flip_pairs=pairs))


@fault("no flip test in a file that says one", flip=True)
def _(contract):
    return replace(contract, flip_test=False)


# The graph itself, changed in place.


def nodes(graph, section, op_type):
    return [n for n in graph.node if n.name.startswith(f"{section}/") and n.op_type == op_type]


def constant(graph, wanted):
    """The initializer with this content."""
    (found,) = (
        tensor
        for tensor in graph.initializer
        if tensor.name.startswith("constant_")
        and (array := numpy_helper.to_array(tensor)).dtype == wanted.dtype
        and np.array_equal(array, wanted)
    )
    return found


def set_constant(graph, wanted, array):
    tensor = constant(graph, wanted)
    tensor.CopyFrom(numpy_helper.from_array(array.astype(wanted.dtype), tensor.name))


@fault("positions cut, not rounded")
def _(graph):
    for node in nodes(graph, "crop", "Round"):
        node.op_type = "Floor"


@fault("steps of 1/32 px cut, not rounded")
def _(graph):
    set_constant(graph, np.float64(16), np.float64(0))


@fault("half a pixel down")
def _(graph):
    rows = np.arange(8, dtype=np.float64)[:, None]
    set_constant(graph, rows, rows + 0.5)


@fault("the frame's edge repeated, not black")
def _(graph):
    black = constant(graph, np.float64(0)).name
    for node in nodes(graph, "crop", "Where"):
        if node.input[2] == black:
            node.input[2] = node.input[1]


@fault("grey levels not rounded")
def _(graph):
    nodes(graph, "crop", "Floor")[-1].op_type = "Identity"


@fault("the higher of the two peaks")
def _(graph):
    nodes(graph, "decode", "Greater")[0].op_type = "Less"


@fault("the crop's corner for its centre")
def _(graph):
    nodes(graph, "decode", "Sub")[-1].op_type = "Add"


@fault("scores for boxes that are none")
def _(graph):
    last = nodes(graph, "decode", "Where")[-1]
    last.op_type = "Identity"
    last.input[:] = last.input[1:2]


@fault("a row of three channels, whatever the frame has")
def _(graph):
    graph.initializer.append(numpy_helper.from_array(np.int32(3), "three"))
    (channels,) = (n.output[0] for n in nodes(graph, "frame", "Gather")[2:3])
    for node in graph.node:
        node.input[:] = ["three" if name == channels else name for name in node.input]


@fault("one person at most")
def _(graph):
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    (where, *_) = (n for n in graph.node if n.name == "keypoints")
    cut = helper.make_node("Slice", ["before", "zero", "one", "zero"], ["keypoints"])
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    where.output[0] = "before"
    graph.node.append(cut)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("faults"))


def faulty(name, path):
    """The bytes of a packed file with one fault in it, and metadata as if it had none."""
    flip, function = FAULTS[name]
    data = path.read_bytes()
    good = frame_contract(read_contract(path), data, flip_test=flip)
    is_of_contract = function.__code__.co_varnames[0] == "contract"
    contract = function(good) if is_of_contract else good
    made = onnx.load_from_string(assemble(onnx.load_from_string(data), contract))
    if not is_of_contract:
        function(made.graph)
    helper.set_model_props(made, {FRAME_METADATA_KEY: good.to_json()})
    return made.SerializeToString()


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_rejected(model, record_property, name):
    report = judge_packed("x.onnx", faulty(name, model), model, None, Campaign.full())
    assert (report.verdict, report.stage) == ("failed", "frame")
    record_property("fault", f"packed: {name} | {report.stage} | {report.failures[0].message[:90]}")


@pytest.mark.parametrize(
    "packing",
    [{}, {"flip_test": True}, {"frame_color_order": "bgr"}, {"fixed": FixedSize(120, 90, 3)}],
)
def test_a_file_without_a_fault_is_accepted(model, packing):
    report = judge_packed("x.onnx", packed(model, **packing), model, None, Campaign.full())
    assert (report.verdict, report.failures) == ("passed", ())


def test_a_file_that_says_something_else_than_its_model_is_rejected(model, tmp_path):
    other = save(tmp_path, box_padding=1.5)
    report = judge_packed("x.onnx", packed(model), other, None, Campaign.brief())
    assert report.stage == "contract"
    assert "expected that of tiny_coco.onnx" in report.failures[0].message
    data = packed(model)
    made = onnx.load_from_string(data)
    said = frame_contract_of(parse_onnx(data))
    changed = replace(said, model=replace(said.model, dataset="other"))
    helper.set_model_props(made, {FRAME_METADATA_KEY: changed.to_json()})
    report = judge_packed("x.onnx", made.SerializeToString(), model, None, Campaign.brief())
    assert report.stage == "contract"


# With a detector.

PEOPLE = [
    (40, 30, 30, 50, 0.9, 0),
    (48, 31, 30, 50, 0.8, 0),  # overlaps by 0.56
    (90, 30, 20, 40, 0.35, 0),  # at the threshold
]


@pytest.fixture(scope="module")
def with_detector(model, tmp_path_factory):
    """A YOLOX that sees people at and above its threshold, and the file that it is packed in."""
    folder = tmp_path_factory.mktemp("detector")
    seen = yolox(PEOPLE, decoded=True)
    onnx.save(seen, folder / "yolox.onnx")
    return folder / "yolox.onnx", pack_file(
        model, folder / "det.onnx", detector=DetectorOptions(folder / "yolox.onnx")
    )


def picture_counts(seen, factor):
    """Makes what a YOLOX says depend on its picture, red more than blue, by so much."""
    (weight,) = (tensor for tensor in seen.graph.initializer if tensor.name == "nothing")
    weight.CopyFrom(numpy_helper.from_array(np.float32(factor), "nothing"))
    colours = np.array([1, 2, 3], np.float32)[None, :, None, None]
    seen.graph.initializer.append(numpy_helper.from_array(colours, "colours"))
    seen.graph.node[0].input[0] = "weighted"
    seen.graph.node.insert(0, helper.make_node("Mul", ["images", "colours"], ["weighted"]))
    return seen


def suppress_less(graph):
    set_constant(graph, np.array([0.45], np.float32), np.array([0.95]))


def ask_for_more(graph):
    nodes(graph, "detect", "GreaterOrEqual")[0].op_type = "Greater"


def forget_the_scale(graph):
    node = next(n for n in nodes(graph, "detect", "Div") if "Cast" in n.input[1])
    node.op_type = "Mul"


def pad_with_black(graph):
    set_constant(graph, np.float32(114), np.float32(0))


def swap_the_colours(graph):
    order = np.array([2, 1, 0], np.int32)[:, None, None]
    set_constant(graph, order, order[::-1])


@pytest.mark.parametrize(
    "change", [suppress_less, ask_for_more, forget_the_scale, pad_with_black, swap_the_colours]
)
def test_a_fault_in_the_detector_is_rejected(model, tmp_path, change):
    detector = tmp_path / "yolox.onnx"
    by_picture = 1e-4 if change in (pad_with_black, swap_the_colours) else 0
    onnx.save(picture_counts(yolox(PEOPLE, decoded=True), by_picture), detector)
    target = pack_file(model, tmp_path / "det.onnx", detector=DetectorOptions(detector))
    made = onnx.load(target)
    good = judge_packed("x.onnx", target.read_bytes(), model, detector, Campaign.full())
    assert good.failures == ()
    change(made.graph)
    report = judge_packed("x.onnx", made.SerializeToString(), model, detector, Campaign.full())
    assert (report.verdict, report.stage) == ("failed", "frame")


def test_a_detector_that_sees_nobody_says_nothing(model, tmp_path):
    onnx.save(yolox([], decoded=True), tmp_path / "yolox.onnx")
    target = pack_file(
        model, tmp_path / "det.onnx", detector=DetectorOptions(tmp_path / "yolox.onnx")
    )
    data = target.read_bytes()
    report = judge_packed("x.onnx", data, model, tmp_path / "yolox.onnx", Campaign.full())
    assert "found nobody in any frame" in report.failures[0].message


# The command.

PACKINGS = {
    "free": {"flip": True, "color_order": "bgr"},
    "fixed": {"fixed": FixedSize(120, 90, 5)},
}
"""Options of pack_file."""


def verify(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", *map(str, arguments)])
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return ended.value.code, output.out, output.err


def test_the_command_judges_a_packed_file_by_the_model_beside_it(tmp_path, capsys):
    path = save(tmp_path)
    target = pack_file(path)
    status, out, _ = verify(capsys, target)
    assert (status, "passed" in out) == (0, True)
    report = Report.read(tmp_path / "parity" / f"{target.stem}.json")
    assert report.model == "tiny_coco_frame"
    assert "up to date" in verify(capsys, target)[1]
    shutil.rmtree(tmp_path / "golden")
    assert "passed" in verify(capsys, target)[1]  # with golden vectors anew

    target.write_bytes(faulty("the higher of the two peaks", path))
    status, out, err = verify(capsys, target)
    assert (status, "failed (frame)" in out) == (1, True)
    assert "differ from the runtime's" in err

    status, _, err = verify(capsys, target, "--detector", path)
    assert (status, "expected no --detector" in err) == (2, True)
    path.unlink()
    status, _, err = verify(capsys, target)
    assert (status, "expected the model that it was packed from" in err) == (2, True)


def test_the_packed_file_replays_the_golden_vectors_of_its_verdict(tmp_path, capsys):
    path = save(tmp_path)
    for kind, options in PACKINGS.items():
        target = pack_file(path, tmp_path / f"{kind}.onnx", **options)
        assert verify(capsys, target)[0] == 0
        replayed, is_released = selftest(target)
        assert [(one.holds, one.error, one.moved) for one in replayed] == [(True, 0, 0)] * 2
        assert is_released
    data = faulty("the crop's corner for its centre", path)
    (tmp_path / "free.onnx").write_bytes(data)
    replayed, is_released = selftest(tmp_path / "free.onnx")
    assert not any(one.holds for one in replayed)
    assert all(one.moved for one in replayed)
    assert not is_released


@pytest.mark.parametrize("kind", ["fp16", "w16"])
def test_a_packed_file_in_reduced_precision_is_that_file_bit_by_bit(tiny, tmp_path, kind):
    reduced = tmp_path / f"{tiny.path.stem}_{kind}.onnx"
    derive_file(tiny.path, kind, reduced, on_stage=lambda _: None)
    target = pack_file(reduced)
    assert target.name == f"{tiny.path.stem}_{kind}_frame.onnx"
    data = target.read_bytes()
    assert frame_contract_of(parse_onnx(data)).model.precision == kind
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    halves = [name for name, kind in types.items() if kind == TensorProto.FLOAT16]
    assert halves
    assert all(name.startswith("pose/") for name in halves)
    report = judge_packed("x.onnx", data, reduced, None, Campaign.full())
    assert (report.verdict, report.failures) == ("passed", ())
    write_packed_golden(data, reduced, None, Campaign.full(), tmp_path / "golden")
    replayed, _ = selftest(target, golden=tmp_path / "golden")
    assert all(one.holds for one in replayed)


def test_the_command_needs_the_detector_that_is_packed(with_detector, model, tmp_path, capsys):
    detector, target = with_detector
    beside = target.with_name(model.name)
    with contextlib.suppress(FileExistsError):
        beside.symlink_to(model)
    assert verify(capsys, target, "--detector", detector)[0] == 0
    replayed, _ = selftest(target)
    assert [(one.cases[-1], one.holds) for one in replayed] == [
        ("astronaut.jpg, person 1", True),
        ("cameraman.jpg, person 1", True),
    ]
    status, _, err = verify(capsys, target)
    assert (status, "add the option" in err) == (2, True)
