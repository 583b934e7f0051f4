import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

import cigpose_runtime
from cigpose_runtime import METADATA_KEY
from cigpose_runtime.cli import main
from cigpose_runtime.commands.inspect import differences, make_report
from tiny_onnx import tiny_contract, tiny_model

RUNTIME = Path(cigpose_runtime.__file__).parents[1]
SHORT_METADATA = json.dumps(
    {"input_w": 6, "input_h": 8, "split_ratio": 2, "mean": [1, 2, 3], "std": [1, 1, 1]}
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory of the test, with two models that differ a little."""
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").write_bytes(tiny_model().SerializeToString())
    other = tiny_contract(split_ratio=3.0, tools=(("torch", "2.12.0"),))
    Path("b.onnx").write_bytes(
        tiny_model(split_ratio=3.0, metadata=other.to_json()).SerializeToString()
    )
    return tmp_path


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME)}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        text=True,
        check=False,
        capture_output="stdout" not in options,
        **options,
    )


# What is shown


def test_one_file_is_shown_in_sections(folder, capsys):
    assert main(["inspect", "a.onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.onnx"
    assert [line for line in lines if line in ("file", "graph", "contract")] == [
        "file",
        "graph",
        "contract",
    ]
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line[:2] == "  "}
    assert rows["size_bytes"] == f"{Path('a.onnx').stat().st_size:,}"
    assert rows["inputs"] == "input float32 (batch, 3, 8, 6)"
    assert rows["outputs"] == "simcc_x float32 (batch, 17, 12), simcc_y float32 (batch, 17, 16)"
    assert rows["operators"] == "MatMul 2, Reshape 2, Flatten 1, GlobalAveragePool 1"
    assert rows["split_ratio"] == "2.0"
    assert rows["keypoint_names"].startswith("17: nose, left_eye, ")
    assert rows["skeleton"].startswith("19: 15-13, 13-11, ")
    assert set(json.loads(tiny_contract().to_json())) < set(rows)


def test_rows_of_a_section_are_aligned(folder, capsys):
    main(["inspect", "a.onnx"])
    section = capsys.readouterr().out.split("contract\n")[1].rstrip().splitlines()
    starts = {line.index(line.split()[1], len(line.split()[0]) + 2) for line in section}
    assert len(starts) == 1


def test_of_two_files_only_what_differs_is_shown(folder, capsys):
    assert main(["inspect", "a.onnx", "b.onnx"]) == 0
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["a.onnx", "b.onnx"]
    assert [row.split()[0] for row in rows] == [
        "file.size_bytes",
        "file.sha256",
        "graph.outputs",
        "graph.parameters",
        "contract.split_ratio",
        "contract.tools.onnx",
        "contract.tools.torch",
    ]
    assert rows[-3].split() == ["contract.split_ratio", "2.0", "3.0"]
    assert rows[-2].split() == ["contract.tools.onnx", "1.23.2", "-"]
    assert last.endswith(" rows are equal")


def test_of_two_equal_files_no_row_is_shown(folder, capsys):
    main(["inspect", "a.onnx", "a.onnx"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_of_two_long_lists_the_first_item_that_differs_is_shown(folder, capsys):
    sigmas = tiny_contract().oks_sigmas
    other = tiny_contract(oks_sigmas=(*sigmas[:9], 0.5, *sigmas[10:])).to_json()
    Path("c.onnx").write_bytes(tiny_model(metadata=other).SerializeToString())
    main(["inspect", "a.onnx", "c.onnx"])
    row = capsys.readouterr().out.splitlines()[-2]
    assert row.split() == ["contract.oks_sigmas", "[9]", "0.062", "[9]", "0.5"]


def test_three_files_are_shown_one_by_one(folder, capsys):
    assert main(["inspect", "a.onnx", "b.onnx", "a.onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(".onnx")] == ["a.onnx", "b.onnx", "a.onnx"]


def test_json_of_one_file(folder, capsys):
    assert main(["inspect", "--json", "a.onnx"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["schema_version", "files"]
    assert document["schema_version"] == 1
    (report,) = document["files"]
    assert list(report) == ["path", "file", "graph", "contract"]
    assert list(report["file"]) == ["size_bytes", "sha256"]
    assert report["graph"] == {
        "ir_version": 10,
        "opset": 18,
        "producer": "tiny_onnx",
        "inputs": [{"name": "input", "elem_type": "float32", "shape": ["batch", 3, 8, 6]}],
        "outputs": [
            {"name": "simcc_x", "elem_type": "float32", "shape": ["batch", 17, 12]},
            {"name": "simcc_y", "elem_type": "float32", "shape": ["batch", 17, 16]},
        ],
        "nodes": 6,
        "operators": {"MatMul": 2, "Reshape": 2, "Flatten": 1, "GlobalAveragePool": 1},
        "initializers": 4,
        "parameters": 3 * 17 * (12 + 16) + 6,
        "metadata_keys": [METADATA_KEY],
    }
    assert report["contract"] == json.loads(tiny_contract().to_json())


def test_json_of_two_files_has_their_differences(folder, capsys):
    assert main(["inspect", "--json", "a.onnx", "b.onnx"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"field": "contract.split_ratio", "values": [2.0, 3.0]} in document["differences"]


def test_the_contract_in_the_json_is_valid_metadata(folder, capsys):
    """So that one file's contract can be saved, edited and given for another with --metadata."""
    main(["inspect", "--json", "a.onnx"])
    contract = json.loads(capsys.readouterr().out)["files"][0]["contract"]
    Path("meta.json").write_text(json.dumps(contract))
    Path("bare.onnx").write_bytes(tiny_model(metadata="").SerializeToString())
    assert main(["inspect", "bare.onnx", "--metadata", "meta.json"]) == 0


@given(st.sampled_from([14, 17, 133]), st.integers(1, 20), st.integers(0, 3))
def test_a_report_differs_from_no_other_report_of_the_same_file(
    tmp_path_factory, num_keypoints, size, seed
):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    model = tiny_model(num_keypoints=num_keypoints, input_size_wh=(size, 8), seed=seed)
    path.write_bytes(model.SerializeToString())
    assert differences(make_report(path), make_report(path)) == []


def test_control_characters_of_a_file_do_not_reach_the_terminal(folder, capsys):
    model = tiny_model()
    model.producer_name = "\x1b[2J\nred"
    Path("c.onnx").write_bytes(model.SerializeToString())
    main(["inspect", "c.onnx"])
    assert r"\x1b[2J\nred" in capsys.readouterr().out


# An override


@pytest.mark.parametrize("text", [SHORT_METADATA, tiny_contract().to_json()])
def test_metadata_can_be_supplied(folder, capsys, text):
    Path("bare.onnx").write_bytes(tiny_model(metadata="").SerializeToString())
    Path("meta.json").write_text(text)
    assert main(["inspect", "bare.onnx", "--metadata", "meta.json"]) == 0
    assert "split_ratio        2.0" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xff", b"{", b'{"schema_version": 9}'])
def test_bad_supplied_metadata_is_an_error_that_names_its_file(folder, capsys, content):
    if content is not None:
        Path("meta.json").write_bytes(content)
    assert main(["inspect", "a.onnx", "--metadata", "meta.json"]) == 2
    assert_is_one_error_line(capsys.readouterr().err, "meta.json")


# Bad input


def with_external_data(location: str) -> onnx.ModelProto:
    model = tiny_model()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


def with_changes(change) -> onnx.ModelProto:
    model = tiny_model()
    change(model)
    return model


def stamped(**changes) -> onnx.ModelProto:
    """tiny_model with the metadata of another contract."""
    return tiny_model(metadata=tiny_contract(**changes).to_json())


BAD_MODELS = {
    "empty file": (b"", "empty"),
    "corrupt wire format": (tiny_model().SerializeToString()[:-100] + b"\xff", "damaged"),
    "HTML page": (b"<html></html>", "HTML"),
    "external data, relative": (with_external_data("weights.bin"), "external data"),
    "external data, parent": (with_external_data("../weights.bin"), "external data"),
    "external data, absolute": (with_external_data("/tmp/weights.bin"), "external data"),
    "external data, symlink": (with_external_data("symlink.bin"), "external data"),
    "external data, hardlink": (with_external_data("hardlink.bin"), "external data"),
    "custom domain": (
        with_changes(lambda model: setattr(model.graph.node[0], "domain", "custom")),
        "custom",
    ),
    "wrong input name": (
        with_changes(lambda model: setattr(model.graph.input[0], "name", "image")),
        "image",
    ),
    "wrong output rank": (
        with_changes(lambda model: model.graph.output[0].type.tensor_type.shape.dim.pop()),
        "simcc_x float32 (batch, 17)",
    ),
    "missing metadata": (tiny_model(metadata=""), "--metadata"),
    "duplicate metadata": (
        with_changes(lambda model: model.metadata_props.add(key=METADATA_KEY, value="{}")),
        "2 times",
    ),
    "invalid JSON": (tiny_model(metadata="{'input_w': 6}"), "JSON"),
    "contradicting keypoint count": (stamped(num_keypoints=14), "num_keypoints = 14"),
    "contradicting split ratio": (stamped(split_ratio=4.0), "split_ratio = 24"),
    "contradicting size": (stamped(input_w=9), "input_w = 9"),
    "newer schema version": (tiny_model(metadata='{"schema_version": 3}'), "0 to 2, found 3"),
    "legacy metadata without normalisation": (
        tiny_model(metadata='{"input_w": 6, "input_h": 8, "split_ratio": 2.0}'),
        "found no mean, std",
    ),
}


@pytest.mark.parametrize(("model", "message"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_bad_model_gets_one_line_and_exit_status_2(folder, capsys, model, message):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    for name in ("weights.bin", "bad.onnx"):
        Path(name).write_bytes(data)
    Path("symlink.bin").symlink_to("weights.bin")
    os.link("weights.bin", "hardlink.bin")
    before = sorted(folder.iterdir())
    assert main(["inspect", "bad.onnx"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert_is_one_error_line(output.err, "bad.onnx", message)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("path", ["missing.onnx", ".", "new\nline.onnx", "\udcff.onnx"])
def test_a_path_that_is_no_file_gets_one_line_and_exit_status_2(folder, capsys, path):
    assert main(["inspect", path]) == 2
    assert_is_one_error_line(capsys.readouterr().err, "expected an ONNX file")


def assert_is_one_error_line(text: str, *parts: str) -> None:
    (line,) = text.splitlines()
    assert line.startswith("cigpose-runtime: error: ")
    assert all(part in line for part in parts)


def test_a_bad_file_does_not_hide_the_others(folder, capsys):
    assert main(["inspect", "a.onnx", "missing.onnx"]) == 2
    output = capsys.readouterr()
    assert output.out.startswith("a.onnx\n")
    assert_is_one_error_line(output.err, "missing.onnx")


def test_two_files_that_remain_of_three_are_not_compared(folder, capsys):
    assert main(["inspect", "a.onnx", "missing.onnx", "b.onnx"]) == 2
    assert "rows are equal" not in capsys.readouterr().out


def test_json_is_valid_beside_a_bad_file(folder, capsys):
    assert main(["inspect", "--json", "a.onnx", "missing.onnx"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [report["path"] for report in document["files"]] == ["a.onnx"]
    assert "differences" not in document


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["inspect", "--wrong"], ["wrong"]])
def test_wrong_usage_is_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: cigpose-runtime" in capsys.readouterr().err


# The process


def test_version_is_that_of_the_distribution(capsys):
    version = importlib.metadata.version("cigpose-runtime")
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"cigpose-runtime {version}\n"


def test_inspect_imports_nothing_but_the_standard_library(folder):
    code = (
        "import sys; before = set(sys.modules); from cigpose_runtime.cli import main\n"
        "assert main(['inspect', 'a.onnx', 'b.onnx']) == 0\n"
        "imported = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(imported - sys.stdlib_module_names), file=sys.stderr)"
    )
    assert run("-c", code).stderr == "['cigpose_runtime']\n"


def test_a_reader_that_closes_the_pipe_ends_it_quietly(folder):
    """`cigpose-runtime inspect FILE | head -0`, with the pipe's end closed from the start."""
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    with os.fdopen(writing_end, "w") as stdout:
        process = run(
            "-m",
            "cigpose_runtime.cli",
            "inspect",
            "a.onnx",
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
    assert (process.returncode, process.stderr) == (141, "")


def test_ctrl_c_is_exit_status_130(folder, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cigpose_runtime.commands.inspect.make_report", interrupt)
    assert main(["inspect", "a.onnx"]) == 130
    assert capsys.readouterr().err == ""
