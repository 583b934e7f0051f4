"""Is a file made from the file that it says, and in the precision that it says?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import onnx
from onnx import TensorProto, numpy_helper

from cigpose_runtime import Contract, DerivedFrom
from cigpose_runtime.errors import quoted
from cigpose_runtime.model_file.contract import Precision
from cigpose_verify.stages.contract import check_contract


def check_origin(
    found: Contract, whole: Contract, precision: Precision, parent_sha256: str
) -> Iterator[str]:
    """What a file in this precision says otherwise than the float32 file, of contract `whole`, and
    of that file itself."""
    expected = replace(
        whole,
        schema_version=found.schema_version,
        precision=precision,
        derived_from=found.derived_from,
    )
    yield from check_contract(found, expected)
    said = found.derived_from
    if said is not None and said.sha256 != parent_sha256:
        yield (
            f"derived_from.sha256: expected that of {found.name}.onnx beside it, "
            f"{parent_sha256[:12]}, found {said.sha256[:12]}; export it again"
        )


def check_portable(data: bytes, found: Contract, whole: Contract, parent: bytes) -> list[str]:
    """What a portable file says otherwise than that file, of contract `whole`, or has otherwise.

    The constants of that file have to be in it as they are, an epsilon, too, that no picture
    reaches; what takes the place of nodes is judged by what it computes.
    """
    problems = [*check_origin(found, whole, "fp32", hashlib.sha256(parent).hexdigest())]
    ours, theirs = (_float_constants(onnx.load_from_string(some)) for some in (data, parent))
    changed = sorted(name for name, values in theirs.items() if ours.get(name) != values)
    if changed:
        problems.append(
            f"expected the constants of {found.name}.onnx, found others for {quoted(changed)}; "
            "export it again"
        )
    return problems


def _float_constants(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Shapes and bytes of the constants that a graph's nodes take, by name."""
    used = {name for node in model.graph.node for name in node.input}
    floats = (t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    tensors = (tensor for tensor in floats if tensor.name in used)
    arrays = ((tensor.name, numpy_helper.to_array(tensor)) for tensor in tensors)
    return {name: (array.shape, array.tobytes()) for name, array in arrays}


def check_types(model: onnx.ModelProto, contract: Contract) -> Iterator[str]:
    """What the metadata say of the types in a graph with float16, and is not so."""
    said = contract.derived_from
    assert said is not None  # of a contract in reduced precision
    if not any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer):
        yield f"precision: expected weights in float16, as {contract.precision} says, found none"
    yield from _of_weights(model, said) if contract.precision == "w16" else _of_graph(model, said)


def _of_weights(model: onnx.ModelProto, said: DerivedFrom) -> Iterator[str]:
    """What keeps a graph from computing in float32 throughout."""
    if rounding := _nodes_in(model, TensorProto.FLOAT16):
        yield f"precision: expected float16 in weights alone, found it in {rounding[0].name}"
    if said.fp32_nodes:
        yield "derived_from.fp32_nodes: expected none named, as all nodes of w16 are in float32"


def _of_graph(model: onnx.ModelProto, said: DerivedFrom) -> Iterator[str]:
    """What is not in the type that it should have, or is said to have."""
    whole = tuple(node.name for node in _nodes_in(model, TensorProto.FLOAT))
    if whole != said.fp32_nodes:
        others = sorted({*whole} ^ {*said.fp32_nodes})
        yield f"derived_from.fp32_nodes: expected all in float32, found otherwise {quoted(others)}"
    makers = {name: node for node in model.graph.node for name in node.output}
    wanted = [makers[output.name] for output in model.graph.output]
    wanted += [node for node in model.graph.node if node.op_type == "ReduceL2"]
    for node in wanted:
        if node.op_type == "Cast" or node.name not in whole:
            yield f"{node.name}: expected an output layer or a norm in float32, found it in float16"


def _nodes_in(model: onnx.ModelProto, elem_type: int) -> list[onnx.NodeProto]:
    """The nodes that compute values of a type, in order."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == elem_type
    }
    return [
        node for node in model.graph.node if node.op_type != "Cast" and values & set(node.output)
    ]
