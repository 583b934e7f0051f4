"""Model files as no exporter writes them, by seed: their bytes, their graphs, their metadata.

Run as a program, for a test to hold the limits: each case is opened and run in a process that dies
of 10 s of CPU in one case. It prints one JSON document; a traceback or a message of more than a
line is named in it by its seed. The seed at hand is kept in a file, so that a crash has one, too.
"""

import contextlib
import io
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigpose_runtime import PoseModel, YoloxDetector, cli
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.model_file.operators import ALLOWED
from fuzzing import Cases, spoilt
from tiny_onnx import tiny_contract, tiny_model
from tiny_yolox import yolox
from wire import damage, to_bytes, to_fields

FRAME = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
PUBLISHED = {
    "input_w": 6,
    "input_h": 8,
    "split_ratio": 2.0,
    "normalization": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
}
ODD = [
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 10**4400, 1e-300, 1e300, 1e999, -1e9),
    *("", "x", "x" * 100_000, "../x", "\x1b[2J\x07", "\ud800", "a\nb", "\u202e", "simcc-argmax"),
    *([], {}, [[]], [None] * 5000, [[0, 1]] * 20_000, {"a": {}}, [0, [1, [2]]], [1.0] * 17),
    {str(number): 0 for number in range(50_000)},
]


def main(kind, seed_path, first, count):
    """Runs cases by seed and prints what came of them."""
    sys.set_int_max_str_digits(0)  # so that ODD can be written
    cases = Cases()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            Path(seed_path).write_text(str(seed))
            rng = random.Random(f"{kind} {seed}")
            path = Path(folder) / "model.onnx"
            run, content = KINDS[kind](rng)
            path.write_bytes(content)
            with cases.case(seed) as count_status:
                count_status(run(path))
    cases.report()


# What is done with a file


def run_pose(path):
    """Opens a pose model and runs it once: what became of it."""
    return _outcome(lambda: PoseModel(path, threads=1)(FRAME, [[0, 0, 30, 40]]))


def run_detector(path):
    """Opens a detector and runs it once."""
    return _outcome(lambda: YoloxDetector(path, threads=1)(FRAME))


def run_inspect(path):
    """Inspects a file as the command line does, as a table or as JSON."""
    out, err = io.StringIO(), io.StringIO()
    more = ["--json"] if path.stat().st_size % 2 else []
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["inspect", *more, str(path)])
    lines = [*out.getvalue().split("\n"), *err.getvalue().split("\n")]
    if not all(line.isprintable() for line in lines) or bool(status) != bool(err.getvalue()):
        raise AssertionError(f"status {status}, {lines[-3:]}")
    return f"inspect: {status}"


def _outcome(run):
    try:
        run()
    except CigposeError as error:
        said = str(error)
        if "\n" in said or len(said) > 3000 or "; " not in said:
            raise AssertionError(f"no message of ours: {said[:3000]}") from error
        return type(error).__name__
    return "runs"


# What is changed

POSE, DETECTOR = tiny_model(), yolox([(40, 30, 20, 40, 0.9, 0)], size_wh=(64, 64), classes=3)


def changed_bytes(rng):
    """Bits flipped, pieces cut, doubled or replaced, or fields as no writer leaves them."""
    model, run = rng.choice([(POSE, run_pose), (DETECTOR, run_detector), (POSE, run_inspect)])
    content = model.SerializeToString()
    if rng.random() < 0.5:
        tree = to_fields(content, onnx.ModelProto.DESCRIPTOR)
        for _ in range(rng.choice([1, 1, 2, 4])):
            damage(tree, onnx.ModelProto.DESCRIPTOR, rng)
        return run, to_bytes(tree)
    return run, spoilt(content, rng)


def changed_graph(rng):
    """Graphs of allowed operators that fit together badly: what onnxruntime has to refuse."""
    run, model = run_pose, onnx.ModelProto()
    if rng.random() < 0.4:
        run = run_detector
    model.CopyFrom(POSE if run is run_pose else DETECTOR)
    graph = model.graph
    for _ in range(rng.choice([1, 1, 2, 3])):
        node = rng.choice(graph.node)
        match rng.randrange(8):
            case 0:
                domain = rng.choice([*ALLOWED, ""])
                node.op_type, node.domain = rng.choice(sorted(ALLOWED[domain])), domain
            case 1:
                values = [name for other in graph.node for name in (*other.input, *other.output)]
                node.input[rng.randrange(len(node.input))] = rng.choice([*values, "", "nowhere"])
            case 2:
                name = rng.choice(["axes", "axis", "pads", "perm", "group", "kernel_shape"])
                value = rng.choice([-1, 0, 1, 2**31, -(2**63), [0, 1], [-1] * 4, [2**40], 0.5, "x"])
                node.attribute.append(helper.make_attribute(name, value))
            case 3:
                tensor = rng.choice(graph.initializer)
                tensor.raw_data = rng.randbytes(len(tensor.raw_data))
            case 4:
                tensor = rng.choice(graph.initializer)
                tensor.dims[:] = rng.choice(
                    [[], [0], [1], [2**31], [10**5, 10**5], [-1], [0, 2**62]]
                )
            case 5:
                tensor = rng.choice(graph.initializer)
                tensor.data_type = rng.randrange(30)
            case 6:
                value = rng.choice([*graph.input, *graph.output]).type.tensor_type
                value.elem_type = rng.choice([0, 1, 1, 7, 10, 16, 99])
                if value.shape.dim:
                    size = rng.choice([0, -1, 1, 5, 20_000, 2**62])
                    value.shape.dim[rng.randrange(len(value.shape.dim))].dim_value = size
            case 7:
                shape = rng.choice([[0], [3, 5], [-1, 2], [0, 17, 12], [1] * 9])
                graph.initializer.append(numpy_helper.from_array(np.array(shape), "made_up"))
                last = graph.node[-1]
                last.output[0], name = "before", last.output[0]
                graph.node.append(helper.make_node("Reshape", ["before", "made_up"], [name]))
    return run, model.SerializeToString()


def changed_metadata(rng):
    """Contracts and what the published models say, with some of it replaced, removed or added."""
    document = rng.choice([json.loads(tiny_contract().to_json()), PUBLISHED])
    for _ in range(rng.choice([1, 1, 2, 5])):
        document = _changed_node(rng, document)
    text = json.dumps(document)
    match rng.randrange(12):
        case 0:
            text = text[: rng.randrange(len(text) + 1)]
        case 1:
            start = rng.randrange(len(text) + 1)
            text = text[:start] + rng.choice(["[", '{"a":']) * 100_000 + text[start:]
        case 2:
            text = text.replace(":", rng.choice([",", ": NaN,", ":1e400 ,", "::"]), 1)
    entries = rng.choice([1, 1, 1, 2])
    model = onnx.ModelProto()
    model.CopyFrom(POSE)
    del model.metadata_props[:]
    for _ in range(entries):
        model.metadata_props.add(key="cigpose_meta", value=text)
    if rng.random() < 0.1:
        model.metadata_props.add(key="\x1b[2J\n", value="x" * rng.choice([1, 10**6]))
    return rng.choice([run_pose, run_inspect, run_inspect]), model.SerializeToString()


def _changed_node(rng, node):
    if rng.random() < 0.2 or not node or not isinstance(node, dict | list):
        return rng.choice(ODD)
    key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    node = node.copy()
    match rng.randrange(8):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[str(rng.choice(ODD[:24]))[:200]] = node[key]
        case 1:
            node.insert(rng.randrange(len(node)), node[key])
        case _:
            node[key] = _changed_node(rng, node[key])
    return node


KINDS = {"bytes": changed_bytes, "graphs": changed_graph, "metadata": changed_metadata}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
