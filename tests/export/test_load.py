import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MessageHub  # noqa: TID251 - real files hold what the real one gives
from torch import Tensor

from cigpose_export.checkpoints.load import load_checkpoint, load_weights
from cigpose_export.errors import CheckpointError
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.openmmlab import HistoryBuffer
from cigpose_export.pipeline import export_model
from cigpose_export.reference.load import load_reference
from cigpose_runtime.files import file_sha256
from tiny_project import make_tiny_project, tiny_name

WRONG_SHA256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_tiny_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def state_dict(project):
    """Weights that fit the tiny variant."""
    torch.manual_seed(0)
    return OrderedDict(new_model(project).state_dict())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth"


def new_model(project):
    (name,) = project.variants
    return build_reference(load_config(project.config_path(name)))


def runner_file(state_dict) -> dict:
    """What MMEngine's runner saves, the message hub made by MMEngine itself."""
    hub = MessageHub("test")
    for step in range(3):
        hub.update_scalar("train/loss", 1 / (step + 1))
    hub.update_info("iter", 999)
    hub.update_info("best", np.float32(0.5))
    return {
        "meta": {"epoch": 420, "iter": 1000, "hook_msgs": {"best_score": np.float64(0.5)}},
        "state_dict": state_dict,
        "message_hub": hub.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 4e-5}]},
        "param_schedulers": [{"last_step": 1000}],
    }


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def with_record(data: bytes, name: str, content: bytes) -> bytes:
    """A torch file with the content of one record replaced."""
    return with_records(data, lambda there, old: content if there == name else old)


def with_pickle(data: bytes, change) -> bytes:
    """A torch file with its data.pkl changed."""
    return with_records(
        data, lambda name, content: change(content) if name.endswith("/data.pkl") else content
    )


def with_records(data: bytes, change) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def pickle_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name)


def assert_is_one_line(error: CheckpointError, *parts: str) -> None:
    assert len(str(error).splitlines()) == 1
    assert str(error).isprintable()
    for part in parts:
        assert part in str(error)
    assert error.exit_status == 2


# What is accepted


def test_a_real_runner_file_is_loaded(project, state_dict, path):
    data = saved(runner_file(state_dict))
    for name in (b"HistoryBuffer", b"numpy._core.multiarray\n_reconstruct", b"scalar"):
        assert name in pickle_of(data)  # torch refuses these by default
    path.write_bytes(data)
    checkpoint = load_checkpoint(path)
    assert checkpoint.weights == "real"
    assert checkpoint.sha256 == file_sha256(path)
    model = new_model(project)
    load_weights(model, checkpoint)
    assert_equal(model.state_dict(), state_dict)


def test_a_file_pickled_under_numpy_1_is_loaded(state_dict, path):
    """numpy 2 renamed numpy.core; the published files were saved under numpy 1."""
    data = with_pickle(
        saved(runner_file(state_dict)), lambda text: text.replace(b"numpy._core", b"numpy.core")
    )
    assert b"numpy._core" not in pickle_of(data)
    assert b"numpy.core.multiarray" in pickle_of(data)
    path.write_bytes(data)
    assert_equal(load_checkpoint(path).state_dict, state_dict)


def test_the_state_dict_is_loaded_and_not_the_copy_beside_it(state_dict, path):
    """MMEngine's EMA hook swaps on saving: the averaged weights are in `state_dict`."""
    raw = {f"module.{key}": value + 1 for key, value in state_dict.items()}
    path.write_bytes(saved({**runner_file(state_dict), "ema_state_dict": raw}))
    assert_equal(load_checkpoint(path).state_dict, state_dict)


def test_a_module_prefix_is_accepted(project, state_dict, path):
    prefixed = {f"module.{key}": value for key, value in state_dict.items()}
    path.write_bytes(saved({"state_dict": prefixed}))
    checkpoint = load_checkpoint(path)
    assert_equal(checkpoint.state_dict, state_dict)
    load_weights(new_model(project), checkpoint)


def test_a_prefix_on_some_keys_only_is_no_prefix(state_dict, path):
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    path.write_bytes(saved({"state_dict": mixed}))
    assert set(load_checkpoint(path).state_dict) == set(mixed)


def test_the_recorded_hash_is_accepted(state_dict, path):
    path.write_bytes(saved({"state_dict": state_dict}))
    digest = file_sha256(path)
    assert load_checkpoint(path, expected_sha256=digest).sha256 == digest


def assert_equal(found, expected) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


# The forms that people save weights in


def legacy(content: object) -> bytes:
    """As MMPose's publishing script saves."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


SAFETENSORS_TYPES = {torch.float32: "F32", torch.int64: "I64"}


def safetensors(weights) -> bytes:
    """As the format's description has it: size of the header, header, tensors in order."""
    header, body = {}, b""
    for key, value in weights.items():
        raw = value.numpy().tobytes()
        spans = [len(body), len(body) + len(raw)]
        dtype = SAFETENSORS_TYPES[value.dtype]
        header[key] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": spans}
        body += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + body


def prefixed(weights, prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in weights.items()}


MEAN = torch.tensor([123.675, 116.28, 103.53]).reshape(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).reshape(3, 1, 1)
"""Of all published configs, as MMPose registers them: not among what it saves."""

FORMS = {
    "legacy container": lambda w: legacy({"meta": {"epoch": 420}, "state_dict": w}),
    "torch.compile": lambda w: saved({"state_dict": prefixed(w, "_orig_mod.")}),
    "compiled and parallel": lambda w: saved({"state_dict": prefixed(w, "module._orig_mod.")}),
    "bare": saved,
    "bare, legacy": legacy,
    "safetensors": safetensors,
    "safetensors, parallel": lambda w: safetensors(prefixed(w, "module.")),
    "under model": lambda w: saved({"model": w, "epoch": 3}),
    "with averaged weights beside": lambda w: saved(
        {"state_dict": w, "ema_state_dict": {k: v + 1 for k, v in w.items()}}
    ),
    "without counters": lambda w: saved(
        {"state_dict": {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")}}
    ),
    "scalars as vectors": lambda w: saved(
        {"state_dict": {k: v if v.shape else v.reshape(1) for k, v in w.items()}}
    ),
    "float64": lambda w: saved(
        {"state_dict": {k: v.double() if v.is_floating_point() else v for k, v in w.items()}}
    ),
    "with the preprocessor's numbers": lambda w: saved(
        {"state_dict": {**w, "data_preprocessor.mean": MEAN, "data_preprocessor.std": STD}}
    ),
    "parameters": lambda w: saved(
        {"model": {k: torch.nn.Parameter(v, False) for k, v in w.items()}}
    ),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_each_form_loads_to_the_weights_of_the_plain_file(project, state_dict, path, make):
    path.write_bytes(make(state_dict))
    model = new_model(project)
    load_weights(model, load_checkpoint(path))
    assert_equal(model.state_dict(), state_dict)


@pytest.mark.parametrize("key", ["ema_state_dict", "state_dict_ema"])
def test_other_weights_are_chosen_by_their_key(state_dict, path, key):
    averaged = {"steps": torch.tensor(3), **prefixed(state_dict, "module.")}
    raw = {name: value + 1 for name, value in state_dict.items()}
    path.write_bytes(saved({"state_dict": raw, key: averaged}))
    assert_equal(load_checkpoint(path, weights_key=key).state_dict, state_dict)


def test_weights_under_an_unusual_key_are_named(state_dict, path):
    path.write_bytes(saved({"ema_state_dict": state_dict}))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_is_one_line(caught.value, "--weights-key ema_state_dict")


def test_a_missing_weights_key_is_named(state_dict, path):
    path.write_bytes(saved({"state_dict": state_dict}))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, weights_key="ema")
    assert_is_one_line(caught.value, "'ema'", "found the keys state_dict")


@pytest.mark.long
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_each_form_exports_to_the_graph_of_the_plain_file(
    project, state_dict, plain_export, tmp_path, make
):
    checkpoint, target = tmp_path / "checkpoint.pth", tmp_path / "model.onnx"
    checkpoint.write_bytes(make(state_dict))
    export(project, checkpoint, target)
    assert graph_of(target) == plain_export


@pytest.fixture(scope="module")
def plain_export(project, state_dict, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("plain")
    checkpoint, target = folder / "checkpoint.pth", folder / "model.onnx"
    checkpoint.write_bytes(saved({"state_dict": state_dict}))
    export(project, checkpoint, target)
    return graph_of(target)


def graph_of(path) -> bytes:
    """All that computes, the weights included; the metadata name the checkpoint's hash."""
    return onnx.load(path).graph.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "change", [{"data_preprocessor.mean": MEAN + 1}, {"data_preprocessor.std": STD[:1]}]
)
def test_a_preprocessor_s_numbers_that_contradict_the_config_are_named(
    project, state_dict, path, change
):
    path.write_bytes(saved({"state_dict": {**state_dict, **change}}))
    with pytest.raises(CheckpointError) as caught:
        load_weights(new_model(project), load_checkpoint(path))
    (key,) = change
    assert_is_one_line(caught.value, f"expected {key} [", "as in the config, found [")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(project, state_dict, path, dtype):
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state_dict.items()}
    path.write_bytes(saved({"state_dict": other}))
    model = new_model(project)
    load_weights(model, load_checkpoint(path))
    assert_equal(model.state_dict(), {k: v.to(state_dict[k].dtype) for k, v in other.items()})


# Damage


def test_a_flipped_bit_is_found_anywhere_in_a_zip_file(path):
    for at in np.random.default_rng(0).choice(8 * len(TORCH_FILE), 200, replace=False):
        damaged = bytearray(TORCH_FILE)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_the_hash_in_a_published_name_is_enforced(tmp_path, state_dict):
    data = legacy({"state_dict": state_dict})
    path = tmp_path / "cigpose.pth"
    path.write_bytes(data)
    digest = file_sha256(path)
    good = path.rename(tmp_path / f"cigpose-{digest[:8]}_20250101.pth")
    assert load_checkpoint(good).sha256 == digest
    good.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(good)
    assert_is_one_line(caught.value, f"begins with {digest[:8]}")


# What a file says of itself


def test_the_config_and_the_data_set_of_a_file_are_kept_as_plain_values(state_dict, path):
    meta = {"cfg": "codec = dict()", "dataset_meta": {"keypoint_id2name": {0: "nose"}}}
    path.write_bytes(saved({"state_dict": state_dict, "meta": meta}))
    checkpoint = load_checkpoint(path)
    assert checkpoint.config_text == "codec = dict()"
    assert checkpoint.dataset_meta == {"keypoint_id2name": {0: "nose"}}


def test_a_file_that_says_nothing_of_itself_has_neither(state_dict, path):
    for meta in ({}, {"cfg": 3, "dataset_meta": [1]}, [], None):
        path.write_bytes(saved({"state_dict": state_dict, "meta": meta}))
        checkpoint = load_checkpoint(path)
        assert checkpoint.config_text is None
        assert checkpoint.dataset_meta is None


# Files that are no checkpoint

TORCH_FILE = saved({"state_dict": {"weight": torch.ones(100)}})
LEGACY_FILE = legacy({"state_dict": {"weight": torch.ones(100)}})


def deflated(data: bytes) -> bytes:
    buffer = io.BytesIO()
    packing = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(data)) as old, packing as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def torch_script() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and files are there
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


def tar_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


class Shadowed:
    """Pickled as an OrderedDict with an attribute in front of one of its methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self):
        return OrderedDict, (), {self.name: 3}, None, iter([("weight", torch.ones(1))])


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "text")
    return buffer.getvalue()


BAD_FILES = {
    "empty file": (b"", "found an empty file"),
    "truncated tail": (TORCH_FILE[:-100], "a damaged or truncated file"),
    "half a file": (TORCH_FILE[: len(TORCH_FILE) // 2], "a damaged or truncated file"),
    "damaged zip directory": (
        TORCH_FILE.replace(b"PK\x01\x02", b"PK\x01\x03"),
        "a damaged or truncated file",
    ),
    "HTML error page": (b"\n<!DOCTYPE html><html>Not found</html>", "an HTML or XML page"),
    "Git-LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "a Git-LFS pointer (run `git lfs pull`",
    ),
    "zip that is no torch file": (zip_of("readme.txt"), "a zip archive that is no torch file"),
    "zip with the names of a torch file": (zip_of("archive/data.pkl"), "found a damaged one"),
    "TorchScript archive": (
        torch_script(),
        "found a TorchScript archive; pass the checkpoint that it was made from",
    ),
    "tar container": (
        tar_of("sys_info", "pickle", "tensors", "storages"),
        "found a tar archive, as torch saved before 0.1.10; load it with a torch that knows it",
    ),
    "compressed records": (deflated(TORCH_FILE), "found compressed ones; unpack the archive and"),
    "big-endian": (
        TORCH_FILE.replace(b"little", b"bigend"),
        "found other bytes in archive/byteorder than its checksum says",
    ),
    "big-endian, with its checksum": (
        with_record(TORCH_FILE, "archive/byteorder", b"big"),
        "expected little-endian numbers, found others; load the file with torch.load",
    ),
    "big-endian legacy container": (
        LEGACY_FILE.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        "expected little-endian numbers, found others; load the file with torch on the kind of",
    ),
    "half a legacy container": (LEGACY_FILE[:-100], "a damaged or truncated file"),
    "more than a legacy container": (LEGACY_FILE + b"0", "a damaged or truncated file"),
    "half a safetensors file": (
        safetensors({"a": torch.ones(9)})[:-1],
        "expected a whole safetensors file, found tensors that end at byte",
    ),
    "a state dict that hides its items": (
        saved({"state_dict": Shadowed("items")}),
        "a dictionary that hides",
    ),
    "a state dict that hides its get": (
        saved({"state_dict": Shadowed("get")}),
        "behind 'get' of its own",
    ),
    "bare pickle": (pickle.dumps({"state_dict": {}}), "a bare pickle"),
    "ONNX file": (b"\x08\x0apytorch", "found something else"),
    "damaged pickle": (with_pickle(TORCH_FILE, lambda text: text[:-1]), "found a damaged one"),
    "newer pickle protocol": (
        with_pickle(TORCH_FILE, lambda _: pickle.dumps({"state_dict": {}}, protocol=4)),
        "expected a pickle of protocol 2",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_gets_one_line(path, data, message):
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_is_one_line(caught.value, "checkpoint.pth", message)
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", ["none.pth", ".", "a" * 300, "/dev/zero", "none/none.pth"])
def test_a_path_without_a_file_gets_one_line(tmp_path, name):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / name)
    assert_is_one_line(caught.value, "expected a checkpoint file", " the path ")


@settings(max_examples=60)
@given(st.integers(0, len(TORCH_FILE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_a_damaged_file_is_loaded_or_refused(tmp_path_factory, at, inserted, removed):
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(TORCH_FILE[:at] + inserted + TORCH_FILE[at + removed :])
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        assert_is_one_line(error)
    else:
        assert all(isinstance(value, Tensor) for value in checkpoint.state_dict.values())


# Files that ask for more than weights


class Call:
    """Pickled as a call; itself callable, so that a call of its result can be pickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __call__(self) -> None: ...

    def __reduce__(self):
        return self.call


def getattr_chain(sentinel) -> Call:
    """From a type that checkpoints may name to the builtins, by getattr alone."""
    scope = Call(getattr, Call(getattr, HistoryBuffer, "update"), "__globals__")
    all_builtins = Call(Call(getattr, scope, "get"), "__builtins__")
    evaluate = Call(Call(getattr, all_builtins, "get"), "eval")
    return Call(evaluate, f"open({str(sentinel)!r}, 'w').close()")


def system_call(sentinel) -> Call:
    return Call(os.system, f"touch {sentinel}")


ATTACKS = {
    "os.system": (system_call, f"({os.system.__module__}.system)"),
    "getattr chain": (getattr_chain, "nothing of it was run"),
    "subprocess": (lambda sentinel: Call(subprocess.call, ["touch", str(sentinel)]), "call)"),
    "eval": (
        lambda sentinel: Call(builtins.eval, f"open({str(sentinel)!r}, 'w')"),
        "(builtins.eval)",
    ),
}


@pytest.fixture(params=ATTACKS)
def attack(request, tmp_path):
    """An object whose pickle makes a file when it is loaded, that file, and part of the error."""
    sentinel = tmp_path / "it_ran"
    make, message = ATTACKS[request.param]
    return make(sentinel), sentinel, message


def test_the_attacks_work_on_a_trusting_reader(attack):
    """So that the tests below can fail."""
    malicious, sentinel, _ = attack
    result = pickle.loads(pickle.dumps(malicious, protocol=2))
    if hasattr(result, "close"):
        result.close()
    assert sentinel.exists()


@pytest.mark.parametrize("save", [saved, legacy])
@pytest.mark.parametrize("place", ["content", "meta", "state_dict"])
def test_code_in_a_torch_file_is_not_run(attack, path, place, save):
    malicious, sentinel, message = attack
    content = {
        "content": malicious,
        "meta": {"meta": malicious, "state_dict": {"weight": torch.ones(1)}},
        "state_dict": {"state_dict": {"weight": malicious}},
    }[place]
    path.write_bytes(save(content))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert not sentinel.exists()
    assert_is_one_line(caught.value, message, "nothing of it was run")
    assert "add_safe_globals" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_code_in_the_config_that_a_file_carries_is_not_run(project, state_dict, tmp_path):
    sentinel, checkpoint = tmp_path / "it_ran", tmp_path / "checkpoint.pth"
    code = f"model = open({str(sentinel)!r}, 'w')"
    compile(code, "<config>", "exec")
    checkpoint.write_bytes(saved({"state_dict": state_dict, "meta": {"cfg": code}}))
    (variant,) = project.variants.values()
    loaded = load_reference(project, variant, checkpoint)
    assert loaded.checkpoint.config_text == code
    assert not sentinel.exists()


def test_code_in_a_bare_pickle_is_not_run(attack, path):
    malicious, sentinel, _ = attack
    path.write_bytes(pickle.dumps(malicious, protocol=2))
    with pytest.raises(CheckpointError, match="a bare pickle"):
        load_checkpoint(path)
    assert not sentinel.exists()


def test_getattr_in_a_file_reads_no_attribute(path):
    """Real files name getattr; the one that stands in for it takes any arguments and does nothing.

    The real one would fail: there is no such attribute.
    """
    content = {
        "state_dict": {"weight": torch.ones(1)},
        "message_hub": Call(getattr, HistoryBuffer, "no_such_attribute"),
    }
    path.write_bytes(saved(content))
    assert b"getattr" in pickle_of(path.read_bytes())
    assert set(load_checkpoint(path).state_dict) == {"weight"}


def test_stand_ins_are_for_one_load_only(state_dict, path):
    path.write_bytes(saved(runner_file(state_dict)))
    load_checkpoint(path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_another_hash_is_reported_before_the_file_is_opened(attack, path):
    malicious, sentinel, _ = attack
    for data in (saved(malicious), pickle.dumps(malicious), b"<html>", b""):
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, expected_sha256=WRONG_SHA256)
        assert_is_one_line(caught.value, WRONG_SHA256, file_sha256(path), "was not opened")
    assert not sentinel.exists()


# Weights that do not fit

BAD_CONTENTS = {
    "no mapping": ([1, 2], "expected an MMEngine checkpoint with a `state_dict`, found list"),
    "no state_dict": ({"weights": {}, "epoch": 3}, "found the keys weights, epoch; pass"),
    "no state_dict, hostile keys": ({"a\n\x1b[2J": 1}, r"found the keys a\n\x1b[2J; pass"),
    "a state_dict that is none": ({"state_dict": 3}, "found the keys state_dict"),
    "an empty state_dict": ({"state_dict": {}}, "found an empty one"),
    "a value that is no tensor": ({"state_dict": {"a": 1.0}}, "1 key of another type: a; pass"),
    "a key that is no text": ({"state_dict": {1: torch.ones(1)}}, "1 key of another type: 1; pass"),
    "a sparse tensor": ({"state_dict": {"a": torch.ones(2).to_sparse()}}, "another type: a; pass"),
    "a tensor without values": (
        {"state_dict": {"a": torch.ones(2, device="meta")}},
        "another type: a; pass",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_CONTENTS.values(), ids=BAD_CONTENTS)
def test_a_file_without_weights_gets_one_line(path, content, message):
    path.write_bytes(saved(content))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_is_one_line(caught.value, "checkpoint.pth", message)


WEIGHT = "head.gcn.conv_input.weight"
BIAS = "head.gcn.conv_input.bias"


def without(*keys):
    return lambda weights: {k: v for k, v in weights.items() if k not in keys}


def with_changes(**changes):
    return lambda weights: {**weights, **changes}


def with_value(value: float):
    def change(weights):
        damaged = weights[WEIGHT].clone()
        damaged[3, 5] = value
        return {**weights, WEIGHT: damaged}

    return change


BAD_WEIGHTS = {
    "a missing key": (without(WEIGHT), f"1 key missing: {WEIGHT}; pass"),
    "two missing keys": (without(WEIGHT, BIAS), f"2 keys missing: {WEIGHT}, {BIAS}; pass"),
    "an extra key": (with_changes(extra=torch.ones(1)), "1 key unexpected: extra; pass"),
    "many extra keys": (
        with_changes(**{f"extra{i}": torch.ones(1) for i in range(7)}),
        "7 keys unexpected: extra0, extra1, extra2, extra3, extra4 and 2 more; pass",
    ),
    "an extra key with control characters": (
        with_changes(**{"a\n\x1b[2J": torch.ones(1)}),
        r"1 key unexpected: a\n\x1b[2J; pass",
    ),
    "a wrong shape": (
        with_changes(**{WEIGHT: torch.ones(32, 31)}),
        f"1 key of the wrong shape: {WEIGHT} (expected (32, 32), found (32, 31)); pass",
    ),
    "a shape too large for memory": (
        with_changes(**{WEIGHT: torch.ones(1).expand(2**40)}),
        "found (1099511627776,)",
    ),
    "a scalar in place of the keypoints": (
        with_changes(**{"head.final_layer.weight": torch.ones(())}),
        "head.final_layer.weight (expected (17, 64, 7, 7), found ())",
    ),
    "NaN": (with_value(torch.nan), f"1 key not finite: {WEIGHT}; pass"),
    "Inf": (with_value(torch.inf), f"1 key not finite: {WEIGHT}; pass"),
    "minus Inf": (with_value(-torch.inf), f"1 key not finite: {WEIGHT}; pass"),
    "beyond float32": (
        lambda weights: {**weights, WEIGHT: torch.full((32, 32), 1e300, dtype=torch.float64)},
        f"1 key beyond float32: {WEIGHT}; pass",
    ),
    "integers": (
        lambda weights: {**weights, WEIGHT: torch.ones(32, 32, dtype=torch.int8)},
        f"1 key not of floating point: {WEIGHT}; pass",
    ),
    "several things at once": (
        lambda weights: {**without(BIAS)(with_value(torch.nan)(weights)), "extra": torch.ones(1)},
        f"1 key missing: {BIAS}; 1 key unexpected: extra; 1 key not finite: {WEIGHT}; pass",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_that_do_not_fit_are_named(project, state_dict, path, change, message):
    path.write_bytes(saved({"state_dict": change(state_dict)}))
    with pytest.raises(CheckpointError) as caught:
        load_weights(new_model(project), load_checkpoint(path))
    assert_is_one_line(caught.value, "checkpoint.pth: ", message)


def test_a_refused_checkpoint_leaves_the_model_as_it_was(project, state_dict, path):
    path.write_bytes(saved({"state_dict": with_value(torch.nan)(state_dict)}))
    model = new_model(project)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(model, load_checkpoint(path))
    assert_equal(model.state_dict(), before)


def test_another_keypoint_count_is_named_first(project, path, tmp_path):
    crowdpose = new_model(make_tiny_project(tmp_path / "crowdpose", "crowdpose"))
    path.write_bytes(saved({"state_dict": crowdpose.state_dict()}))
    with pytest.raises(CheckpointError) as caught:
        load_weights(new_model(project), load_checkpoint(path))
    assert_is_one_line(caught.value, "the config expects 17 keypoints, the weights have 14")


# The whole export


def export(project, checkpoint, target, **changes) -> None:
    (variant,) = project.variants.values()
    export_model(
        project,
        replace(variant, **changes),
        weights="real",
        checkpoint_path=checkpoint,
        target=target,
        on_stage=lambda _stage: None,
    )


BAD_EXPORTS = {
    **{name: (lambda _weights, data=data: data) for name, (data, _) in BAD_FILES.items()},
    **{name: (lambda _weights, c=content: saved(c)) for name, (content, _) in BAD_CONTENTS.items()},
    **{
        name: (lambda weights, change=change: saved({"state_dict": change(weights)}))
        for name, (change, _) in BAD_WEIGHTS.items()
    },
    "os.system": lambda _weights: saved(system_call("it_ran")),
    "getattr chain": lambda _weights: saved(getattr_chain("it_ran")),
}


@pytest.mark.parametrize("make", BAD_EXPORTS.values(), ids=BAD_EXPORTS)
def test_a_bad_checkpoint_ends_an_export_before_anything_is_written(
    project, state_dict, tmp_path, monkeypatch, make
):
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "checkpoint.pth"
    checkpoint.write_bytes(make(state_dict))
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    target.write_bytes(b"made earlier")
    with pytest.raises(CheckpointError) as caught:
        export(project, checkpoint, target)
    assert caught.value.exit_status == 2
    assert target.read_bytes() == b"made earlier"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "checkpoint.pth",
        "model.onnx",
        "out",
    ]


def test_the_command_refuses_a_malicious_file(tmp_path):
    sentinel, checkpoint, out = (tmp_path / name for name in ("it_ran", "evil.pth", "out"))
    checkpoint.write_bytes(saved({"state_dict": {}, "meta": system_call(sentinel)}))
    out.mkdir()
    artefact = out / f"{tiny_name()}.onnx"
    artefact.write_bytes(b"made earlier")
    ended = run_export(checkpoint, out)
    assert ended.returncode == 2
    assert_is_one_error(ended.stderr, "evil.pth", "nothing of it was run")
    assert not sentinel.exists()
    assert [path.name for path in out.iterdir()] == [artefact.name]
    assert artefact.read_bytes() == b"made earlier"


def test_the_command_refuses_the_weights_of_another_variant(project, state_dict, tmp_path):
    checkpoint, out = tmp_path / "tiny.pth", tmp_path / "out"
    checkpoint.write_bytes(saved({"state_dict": state_dict}))
    ended = run_export(checkpoint, out)
    assert ended.returncode == 2
    assert_is_one_error(ended.stderr, "tiny.pth", "keys missing", "keys of the wrong shape")
    assert not out.exists()


def run_export(checkpoint, out) -> subprocess.CompletedProcess[str]:
    command = ["export", tiny_name(), "--checkpoint", str(checkpoint), "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-m", "cigpose_export.cli.main", *command],
        text=True,
        capture_output=True,
        check=False,
    )


def assert_is_one_error(stderr: str, *parts: str) -> None:
    assert "Traceback" not in stderr
    (error,) = (line for line in stderr.splitlines() if line.startswith("cigpose-tools: error: "))
    for part in parts:
        assert part in error
