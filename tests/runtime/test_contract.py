import json
import math
from dataclasses import fields, replace

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cigpose_runtime import (
    KEYPOINT_SETS,
    METADATA_KEY,
    Calibration,
    Contract,
    DerivedFrom,
    MetadataError,
    OnnxFileError,
    SourceCheckpoint,
    check_against_graph,
    parse_onnx,
    read_contract,
)
from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.model_file.contract_fields import RULES
from cigpose_runtime.model_file.reader import contract_from_metadata
from tiny_onnx import SET_OF, tiny_contract, tiny_model

LEGACY = {
    "input_w": 6,
    "input_h": 8,
    "split_ratio": 2.0,
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
}


def document(**changes) -> dict:
    return {**json.loads(tiny_contract().to_json()), **changes}


def without(members: dict, *keys: str) -> dict:
    return {key: value for key, value in members.items() if key not in keys}


@pytest.fixture
def save(tmp_path):
    """Writes a model to a file and returns its path."""

    def save_model(model: onnx.ModelProto):
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save_model


# The record

means, stds = st.floats(-1e6, 1e6), st.floats(1e-6, 1e6)
sides = st.integers(1, 1024)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
counts = st.integers(1, 2**31 - 1)
printable = dict(exclude_categories=("C", "Z"), include_characters=" ")
texts = st.text(st.characters(**printable), min_size=1)


@st.composite
def contracts(draw) -> Contract:
    num_keypoints = draw(st.integers(2, 20))
    index_pairs = st.permutations(range(num_keypoints)).map(lambda order: tuple(order[:2]))
    flipped = draw(st.permutations(range(num_keypoints)))
    num_flips = draw(st.integers(0, num_keypoints // 2))
    origin = {
        "name": draw(texts),
        "weights": draw(st.sampled_from(["real", "synthetic"])),
        "source_checkpoint": SourceCheckpoint(
            draw(st.text(st.characters(**printable, exclude_characters="/\\"), min_size=1)),
            draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        ),
        "tools": tuple(sorted(draw(st.dictionaries(texts, texts)).items())),
        "license": draw(texts),
        "attribution": draw(texts),
    }
    schema_version = draw(st.sampled_from([0, 1, 2]))
    precision = draw(st.sampled_from(["fp32", "fp16", "w16", "int8"]))
    hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
    calibrations = st.builds(Calibration, st.sampled_from(["drawn", "pictures"]), counts, hashes)
    reduction = {
        "precision": precision,
        "derived_from": DerivedFrom(
            draw(hashes),
            draw(texts),
            draw(texts),
            tuple(draw(st.lists(texts, max_size=3, unique=True))),
            draw(calibrations) if precision == "int8" else None,
            draw(counts) if precision == "fp32" else None,
        ),
    }
    return Contract(
        schema_version=schema_version,
        dataset=draw(texts),
        num_keypoints=num_keypoints,
        input_w=draw(sides),
        input_h=draw(sides),
        split_ratio=draw(st.floats(0, 50, exclude_min=True)),
        mean=draw(st.tuples(means, means, means)),
        std=draw(st.tuples(stds, stds, stds)),
        color_order=draw(st.sampled_from(["rgb", "bgr"])),
        box_padding=draw(st.floats(1, 10)),
        decode="simcc-argmax",
        keypoint_names=tuple(
            draw(st.lists(texts, min_size=num_keypoints, max_size=num_keypoints, unique=True))
        ),
        skeleton=tuple(draw(st.lists(index_pairs))),
        flip_pairs=tuple(zip(flipped[:num_flips], flipped[num_flips:], strict=False)),
        oks_sigmas=tuple(draw(st.lists(positive, min_size=num_keypoints, max_size=num_keypoints))),
        opset=draw(counts),
        **(origin if schema_version else dict.fromkeys(origin)),
        **(reduction if schema_version == 2 else {}),
    )


@given(contracts())
def test_json_brings_back_the_same_contract(contract):
    text = contract.to_json()
    assert Contract.from_json(text) == contract
    assert Contract.from_json(text).to_json() == text


@given(contracts())
def test_json_is_one_line_of_ascii(contract):
    text = contract.to_json()
    assert text.isascii()
    assert text.isprintable()


def test_json_has_the_fields_in_their_order_and_keeps_whole_floats_floats():
    text = tiny_contract(tools=(("torch", "2.13.0"),)).to_json()
    assert text.startswith(
        '{"schema_version":1,"name":"tiny_coco","dataset":"coco","num_keypoints":17,"input_w":6,'
        '"input_h":8,"split_ratio":2.0,"mean":[123.675,116.28,103.53],"std":[58.395,57.12,57.375],'
        '"color_order":"rgb","box_padding":1.25,"decode":"simcc-argmax","keypoint_names":["nose",'
    )
    assert text.endswith(
        '"weights":"synthetic","source_checkpoint":{"file":"tiny.pth","sha256":"'
        + "0123456789abcdef" * 4
        + '"},"tools":{"torch":"2.13.0"},"opset":18,"license":"Apache-2.0",'
        '"attribution":"CIGPose, MMPose"}'
    )


def reduced(**changes) -> Contract:
    derived_from = DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", ("node_conv",))
    return tiny_contract(
        **{"schema_version": 2, "precision": "fp16", "derived_from": derived_from, **changes}
    )


def test_reduced_precision_is_said_behind_what_a_float32_model_says():
    whole, said = tiny_contract().to_json(), reduced().to_json()
    assert said == whole.replace('"schema_version":1', '"schema_version":2')[:-1] + (
        ',"precision":"fp16","derived_from":{"sha256":"' + "ab" * 32 + '","converter":'
        '"cigpose-toolchain","converter_version":"0.1.0","fp32_nodes":["node_conv"]}}'
    )


CALIBRATION = Calibration("drawn", 200, "cd" * 32)


def quantised(**changes) -> Contract:
    derived_from = DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", (), CALIBRATION)
    return reduced(**{"precision": "int8", "derived_from": derived_from, **changes})


def test_int8_says_what_it_was_calibrated_on():
    assert (
        quantised()
        .to_json()
        .endswith(
            '"fp32_nodes":[],"calibration":{"source":"drawn","crops":200,"sha256":"'
            + "cd" * 32
            + '"}}}'
        )
    )


def test_int8_has_a_calibration_and_no_other_precision_has():
    message = "derived_from.calibration: expected "
    with pytest.raises(MetadataError, match=f"{message}none of fp16, found Calibration"):
        quantised(precision="fp16")
    with pytest.raises(MetadataError, match=f"{message}one, as of all int8, found None"):
        reduced(precision="int8")


@pytest.mark.parametrize(
    "changes", [{"source": "pictures of mine"}, {"crops": 0}, {"sha256": "cd"}, {"crops": True}]
)
def test_a_calibration_that_does_not_hold_is_refused(changes):
    derived_from = replace(quantised().derived_from, calibration=replace(CALIBRATION, **changes))
    with pytest.raises(MetadataError, match=r"derived_from: expected .* of int8 its calibration"):
        quantised(derived_from=derived_from)


def portable(batch=1, **changes) -> Contract:
    derived_from = DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", (), batch=batch)
    return reduced(**{"precision": "fp32", "derived_from": derived_from, **changes})


def test_a_portable_model_says_its_batch():
    assert portable(3).to_json().endswith('"fp32_nodes":[],"batch":3}}')
    message = "derived_from.batch: expected "
    with pytest.raises(MetadataError, match=f"{message}none of fp16, found 1"):
        portable(precision="fp16")
    with pytest.raises(MetadataError, match=f"{message}one, as of all fp32, found None"):
        portable(None)
    for batch in (0, True, 1.0):
        with pytest.raises(MetadataError, match=r"derived_from: expected .* and of fp32 its batch"):
            portable(batch)


def test_a_portable_model_has_the_batch_that_it_says(save):
    text = portable(3).to_json()
    assert read_contract(save(tiny_model(batch=3, metadata=text))).fixed_batch == 3
    for batch, found in ((2, "2"), ("batch", "batch")):
        message = f"derived_from.batch = 3 but input's batch = {found}"
        with pytest.raises(MetadataError, match=message):
            read_contract(save(tiny_model(batch=batch, metadata=text)))


def test_a_file_is_called_after_its_model_precision_and_batch():
    assert tiny_contract().artefact_name == "tiny_coco"
    assert reduced().artefact_name == "tiny_coco_fp16"
    assert portable(1).artefact_name == "tiny_coco_portable"
    assert portable(8).artefact_name == "tiny_coco_portable_b8"


def test_json_has_what_the_published_client_reads():
    meta = json.loads(tiny_contract().to_json())
    assert (meta["input_w"], meta["input_h"], meta["split_ratio"]) == (6, 8, 2.0)


def test_whole_numbers_in_json_are_read_as_floats():
    contract = Contract.from_json(json.dumps(document(split_ratio=2, mean=[0, 0, 0])))
    assert contract.mean == (0.0, 0.0, 0.0)
    assert all(type(value) is float for value in (contract.split_ratio, *contract.mean))


def test_every_field_has_a_rule_and_they_are_in_the_same_order():
    assert [field.name for field in fields(Contract)] == list(RULES)


def test_contracts_can_be_set_members():
    assert len({tiny_contract(), tiny_contract(), tiny_contract(input_w=9)}) == 2


def test_keypoints_are_a_keypoint_set():
    assert tiny_contract(num_keypoints=133).keypoints == KEYPOINT_SETS["coco-wholebody"]


INVALID_FIELDS = [
    ("schema_version", True),
    ("schema_version", -1),
    ("name", ""),
    ("name", None),
    ("name", "\x1b[2J"),
    ("dataset", "half a pair: \ud800"),
    ("keypoint_names", ("two\nlines", *map(str, range(16)))),
    ("tools", (("torch", "\udfff"),)),
    ("dataset", 1),
    ("num_keypoints", 17.0),
    ("num_keypoints", 0),
    ("num_keypoints", 16),
    ("input_w", True),
    ("input_w", 0),
    ("input_h", -8),
    ("input_h", 2**31),
    ("input_w", 1025),
    ("num_keypoints", 1025),
    ("split_ratio", 9000.0),
    ("split_ratio", 2),
    ("split_ratio", 0.0),
    ("split_ratio", math.nan),
    ("split_ratio", math.inf),
    ("mean", (0.0, 0.0)),
    ("mean", [0.0, 0.0, 0.0]),
    ("mean", (0.0, 0.0, math.inf)),
    ("mean", (0.0, 0.0, -1e7)),
    ("std", (1.0, 0.0, 1.0)),
    ("std", (1.0, 1e-7, 1.0)),
    ("std", (1.0, 1e7, 1.0)),
    ("color_order", "RGB"),
    ("box_padding", 0.99),
    ("box_padding", 10.5),
    ("decode", "argmax"),
    ("keypoint_names", ("nose",)),
    ("keypoint_names", ("nose",) * 17),
    ("keypoint_names", tuple(range(17))),
    ("skeleton", ((0, 17),)),
    ("skeleton", ((0, 1),) * 4097),
    ("skeleton", ((0, -1),)),
    ("skeleton", ((0, 0),)),
    ("skeleton", ((0, 1, 2),)),
    ("skeleton", ((0, True),)),
    ("flip_pairs", ((0, 1), (1, 2))),
    ("flip_pairs", ((0, 17),)),
    ("oks_sigmas", (0.1,) * 16),
    ("oks_sigmas", (0.0,) * 17),
    ("weights", "fake"),
    ("source_checkpoint", None),
    ("source_checkpoint", SourceCheckpoint("folder/file.pth", "0" * 64)),
    ("source_checkpoint", SourceCheckpoint("C:\\file.pth", "0" * 64)),
    ("source_checkpoint", SourceCheckpoint("", "0" * 64)),
    ("source_checkpoint", SourceCheckpoint("file.pth", "0" * 63)),
    ("source_checkpoint", SourceCheckpoint("file.pth", "F" * 64)),
    ("tools", (("torch", "2"), ("onnx", "1"))),
    ("tools", (("torch", "2"), ("torch", "3"))),
    ("tools", {"torch": "2"}),
    ("opset", 0),
    ("license", ""),
    ("attribution", None),
]


@pytest.mark.parametrize(("field", "value"), INVALID_FIELDS)
def test_a_field_that_does_not_hold_is_named(field, value):
    with pytest.raises(MetadataError, match=rf"{field}\b"):
        replace(tiny_contract(), **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("precision", "bf16"),
        ("derived_from", None),
        ("derived_from", DerivedFrom("ab", "cigpose-toolchain", "0.1.0", ())),
        ("derived_from", DerivedFrom("ab" * 32, "", "0.1.0", ())),
        ("derived_from", DerivedFrom("ab" * 32, "cigpose-toolchain", "", ())),
        ("derived_from", DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", ("a", "a"))),
        ("derived_from", DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", ["a"])),
    ],
)
def test_a_field_of_reduced_precision_that_does_not_hold_is_named(field, value):
    with pytest.raises(MetadataError, match=rf"{field}\b"):
        reduced(**{field: value})


def test_a_float32_contract_says_nothing_of_reduced_precision():
    with pytest.raises(
        MetadataError, match=r"precision: expected 'fp32'.*derived_from: expected n"
    ):
        reduced(schema_version=1)


def test_all_fields_that_do_not_hold_are_named_at_once():
    with pytest.raises(MetadataError) as caught:
        tiny_contract(name="", std=(0.0, 1.0, 1.0), oks_sigmas=(0.1,), opset=0)
    assert all(field in str(caught.value) for field in ("name", "std", "oks_sigmas", "opset"))


def test_a_foreign_contract_says_nothing_of_its_origin():
    with pytest.raises(MetadataError, match="weights: expected null"):
        tiny_contract(schema_version=0)


# The document

BAD_DOCUMENTS = {
    "no JSON": ("{'input_w': 192}", "JSON"),
    "nothing": ("", "JSON"),
    "a list": ("[]", "JSON object"),
    "NaN": (tiny_contract().to_json().replace("1.25", "NaN"), "NaN"),
    "infinity": (tiny_contract().to_json().replace("1.25", "-Infinity"), "-Infinity"),
    "a float that overflows": (tiny_contract().to_json().replace("1.25", "1e999"), "box_padding"),
    "a repeated key": ('{"input_w": 1, "input_w": 2}', "'input_w' more than once"),
    "a repeated key inside": (
        tiny_contract().to_json().replace('"onnx":', '"torch":'),
        "'torch' more than once",
    ),
    "endless nesting": ("[" * 100_000, "JSON"),
    "deep nesting": (json.dumps(document(mean=json.loads("[" * 500 + "]" * 500))), "mean"),
    "a huge number": (json.dumps(document(opset=10**4000)), "opset"),
    "a newer version": (json.dumps({"schema_version": 3, "new": 1}), "0 to 2, found 3; upgrade"),
    "reduced precision in an old version": (
        json.dumps(document(precision="fp16")),
        "unknown key 'precision'",
    ),
    "reduced precision without saying so": (
        json.dumps(document(schema_version=2)),
        "missing precision, derived_from",
    ),
    "a derivation with more in it": (
        json.dumps(document(schema_version=2, precision="w16", derived_from={"by": "me"})),
        "derived_from: expected a sha256, a converter and its version",
    ),
    "a null version": (json.dumps(document(schema_version=None)), "schema_version"),
    "an unknown key": (json.dumps(document(quality=1)), "unknown key 'quality'"),
    "a misspelled key": (
        json.dumps({**without(document(), "split_ratio"), "splitratio": 2.0}),
        "'splitratio', did you mean 'split_ratio'.*missing split_ratio",
    ),
    "a million unknown keys": (
        json.dumps({str(key): 0 for key in range(1_000_000)}),
        "at most 1,048,576 bytes, found",
    ),
    "as many unknown keys as fit": (
        json.dumps(document(**{str(key): 0 for key in range(80_000)})),
        "unknown key '4'; 79,995 more unknown keys",
    ),
    "a long unknown key": (json.dumps(document(**{"input" * 100_000: 0})), "unknown key 'input"),
    "half a surrogate pair": (
        json.dumps(document(license="\ud800")),
        "license: expected printable",
    ),
    "an input of 20,000 x 20,000": (
        json.dumps(document(input_w=20_000, input_h=20_000)),
        "input_w: expected an integer from 1 to 1024, found 20000; input_h",
    ),
    "more bins than memory": (
        json.dumps(document(split_ratio=1e300)),
        "expected at most 2,097,152 bins",
    ),
    "missing keys": (json.dumps(without(document(), "mean", "opset")), "missing mean, opset"),
    "a wrong type": (json.dumps(document(input_w="6")), "input_w: .*'6'"),
    "a wrong shape": (json.dumps(document(skeleton=[0, 1])), "skeleton"),
    "tools as a list": (json.dumps(document(tools=[["torch", "2"]])), "tools"),
    "more about the checkpoint": (
        json.dumps(document(source_checkpoint={"file": "a", "sha256": "0" * 64, "path": "/"})),
        "source_checkpoint",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_a_bad_document_is_refused_with_its_reason(text, message):
    with pytest.raises(MetadataError, match=message) as caught:
        Contract.from_json(text)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(document())), json_values)
def test_any_value_of_any_field_is_read_or_refused(field, value):
    try:
        contract = Contract.from_json(json.dumps(document(**{field: value})))
    except MetadataError:
        return
    assert Contract.from_json(contract.to_json()) == contract


# In a file


@pytest.mark.parametrize("num_keypoints", SET_OF)
def test_a_stamped_file_gives_back_its_contract(save, num_keypoints):
    path = save(tiny_model(num_keypoints=num_keypoints))
    assert read_contract(path) == tiny_contract(num_keypoints=num_keypoints)


def test_onnx_runtime_sees_the_same_metadata_and_runs_the_model(save):
    session = ort.InferenceSession(save(tiny_model()), providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert Contract.from_json(text) == tiny_contract()


def test_missing_metadata_is_an_error_that_names_the_override(save):
    with pytest.raises(MetadataError, match=r"model\.onnx: .*found none.*--metadata"):
        read_contract(save(tiny_model(metadata="")))


def test_an_override_takes_the_place_of_missing_metadata(save):
    contract = tiny_contract()
    assert read_contract(save(tiny_model(metadata="")), override=contract) is contract


def test_an_override_takes_the_place_of_bad_metadata(save):
    contract = tiny_contract(color_order="bgr")
    assert read_contract(save(tiny_model(metadata="{")), override=contract) is contract


def test_an_override_is_checked_against_the_graph(save):
    with pytest.raises(MetadataError, match="num_keypoints"):
        read_contract(save(tiny_model()), override=tiny_contract(num_keypoints=14))


def test_an_override_may_come_with_a_fixed_batch(save):
    contract = tiny_contract()
    assert read_contract(save(tiny_model(batch=1)), override=contract) is contract


def test_repeated_metadata_is_an_error(save):
    model = tiny_model()
    model.metadata_props.add().CopyFrom(model.metadata_props[0])
    with pytest.raises(MetadataError, match="2 times"):
        read_contract(save(model))


def test_other_metadata_is_no_concern(save):
    model = tiny_model()
    model.metadata_props.add(key="author", value="someone")
    assert read_contract(save(model)) == tiny_contract()


CONTRADICTIONS = {
    "keypoint count": ({"num_keypoints": 14}, "num_keypoints = 14 but simcc_x's keypoints = 17"),
    "split ratio": ({"split_ratio": 3.0}, r"split_ratio = 18 but simcc_x's bins = 12"),
    "width": ({"input_size_wh": (8, 8)}, "input_w = 8 but input's width = 6"),
    "height": ({"input_size_wh": (6, 6)}, "input_h = 6 but input's height = 8"),
    "opset": ({"opset": 17}, "opset = 17 but opset = 18"),
}


@pytest.mark.parametrize(("stated", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_metadata_that_contradicts_the_graph_is_refused(save, stated, message):
    with pytest.raises(MetadataError, match=message):
        read_contract(save(tiny_model(metadata=tiny_contract(**stated).to_json())))


def test_all_contradictions_are_listed():
    contract = tiny_contract(num_keypoints=14, input_size_wh=(7, 9), opset=1)
    with pytest.raises(MetadataError) as caught:
        check_against_graph(contract, parse_onnx(tiny_model().SerializeToString()))
    assert str(caught.value).count(" but ") == 7


def test_bins_are_whole_as_mmpose_truncates_them(save):
    shape = {"input_size_wh": (5, 7), "split_ratio": 2.5}
    assert read_contract(save(tiny_model(**shape))) == tiny_contract(**shape)


def value(name, elem_type=TensorProto.FLOAT, shape=("batch", 17, 12)):
    return helper.make_tensor_value_info(name, elem_type, shape)


WRONG_INTERFACES = {
    "another input name": ("input", [value("images", shape=["batch", 3, 8, 6])]),
    "no input": ("input", []),
    "two inputs": (
        "input",
        [value("input", shape=["batch", 3, 8, 6]), value("mask", shape=["batch", 1, 8, 6])],
    ),
    "an input of bytes": ("input", [value("input", TensorProto.UINT8, ["batch", 3, 8, 6])]),
    "an input of rank 3": ("input", [value("input", shape=[3, 8, 6])]),
    "an input of unknown rank": ("input", [value("input", shape=None)]),
    "an input with channels last": ("input", [value("input", shape=["batch", 8, 6, 3])]),
    "a free width": ("input", [value("input", shape=["batch", 3, 8, "width"])]),
    "a fixed batch": ("input", [value("input", shape=[1, 3, 8, 6])]),
    "other output names": ("output", [value("x"), value("y", shape=["batch", 17, 16])]),
    "swapped outputs": ("output", [value("simcc_y", shape=["batch", 17, 16]), value("simcc_x")]),
    "one output": ("output", [value("simcc_x")]),
    "an output of rank 4": (
        "output",
        [value("simcc_x", shape=["batch", 17, 3, 4]), value("simcc_y", shape=["batch", 17, 16])],
    ),
    "an output of halves": (
        "output",
        [value("simcc_x", TensorProto.FLOAT16), value("simcc_y", shape=["batch", 17, 16])],
    ),
    "an output with free keypoints": (
        "output",
        [value("simcc_x", shape=["batch", "k", 12]), value("simcc_y", shape=["batch", 17, 16])],
    ),
}


@pytest.mark.parametrize(("side", "values"), WRONG_INTERFACES.values(), ids=WRONG_INTERFACES)
def test_a_graph_with_another_interface_is_refused(save, side, values):
    model = tiny_model()
    model.graph.ClearField(side)
    getattr(model.graph, side).extend(values)
    with pytest.raises(OnnxFileError, match=f"expected the {side}s .*found "):
        read_contract(save(model))


def test_another_interface_is_told_before_missing_metadata(save):
    model = tiny_model(metadata="")
    model.graph.input[0].name = "images"
    with pytest.raises(OnnxFileError, match="images"):
        read_contract(save(model))


# In a file published before the schema


@pytest.mark.parametrize("num_keypoints", SET_OF)
@pytest.mark.parametrize("batch", ["batch", 1])
def test_legacy_metadata_and_the_graph_make_a_contract(save, num_keypoints, batch):
    model = tiny_model(num_keypoints=num_keypoints, batch=batch, metadata=json.dumps(LEGACY))
    assert read_contract(save(model)) == replace(
        tiny_contract(num_keypoints=num_keypoints),
        schema_version=0,
        name=None,
        weights=None,
        source_checkpoint=None,
        tools=None,
        license=None,
        attribution=None,
    )


@pytest.mark.parametrize("spelling", ["normalization", "normalisation"])
def test_legacy_normalisation_may_be_an_object(save, spelling):
    inner = {key: LEGACY[key] for key in ("mean", "std")}
    metadata = {**without(LEGACY, "mean", "std"), spelling: {**inner, "to_rgb": True}}
    contract = read_contract(save(tiny_model(metadata=json.dumps(metadata))))
    assert (contract.mean, contract.std) == (tiny_contract().mean, tiny_contract().std)


def test_unknown_keys_of_legacy_metadata_are_ignored(save):
    plain = save(tiny_model(metadata=json.dumps(LEGACY)))
    expected = read_contract(plain)
    more = {**LEGACY, "exported_by": "someone", "name": "cigpose", "weights": "w.pth"}
    assert read_contract(save(tiny_model(metadata=json.dumps(more)))) == expected


def test_what_legacy_metadata_says_of_the_computation_is_not_ignored(save):
    metadata = json.dumps({**LEGACY, "color_order": "bgr"})
    assert read_contract(save(tiny_model(metadata=metadata))).color_order == "bgr"


@pytest.mark.parametrize("key", ["mean", "std", "input_w", "input_h", "split_ratio"])
def test_legacy_metadata_that_lacks_something_is_an_error_that_names_the_override(save, key):
    model = tiny_model(metadata=json.dumps(without(LEGACY, key)))
    with pytest.raises(MetadataError, match=f"found no {key}; .*--metadata"):
        read_contract(save(model))


@pytest.mark.parametrize(
    ("key", "stated"), [("input_w", 8), ("split_ratio", 3.0), ("num_keypoints", 133)]
)
def test_legacy_metadata_that_contradicts_the_graph_is_refused(save, key, stated):
    model = tiny_model(metadata=json.dumps({**LEGACY, key: stated}))
    with pytest.raises(MetadataError, match=key):
        read_contract(save(model))


def test_legacy_metadata_beside_an_unknown_keypoint_set_is_refused():
    model = tiny_model(metadata=json.dumps(LEGACY))
    for output, bins in zip(model.graph.output, (12, 16), strict=True):
        output.CopyFrom(value(output.name, shape=["batch", 21, bins]))
    with pytest.raises(MetadataError, match=r"14, 17 or 133 keypoints .*found 21"):
        contract_from_metadata(json.dumps(LEGACY), parse_onnx(model.SerializeToString()))
