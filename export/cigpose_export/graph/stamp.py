"""Cleans a graph of everything that is not computation and writes the contract into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.message import Message

from cigpose_export import __version__
from cigpose_export.graph.opset import IR_VERSION
from cigpose_runtime import METADATA_KEY, Contract, contract_of, parse_onnx
from cigpose_verify.stages.structure import check_structure


def stamp(model: onnx.ModelProto, contract: Contract) -> bytes:
    """The bytes of a file: the graph without paths, doc strings and traces, and the contract."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    stamped.ir_version = IR_VERSION
    stamped.graph.name = str(contract.name)
    return stamped_bytes(stamped, {METADATA_KEY: contract.to_json()})


def stamped_bytes(model: onnx.ModelProto, metadata: dict[str, str]) -> bytes:
    """Cleans a model in place and returns the bytes of a file of it with these metadata."""
    for message in _messages(model):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    model.producer_name = "cigpose-toolchain"
    model.producer_version = __version__
    onnx.helper.set_model_props(model, metadata)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def read_back_problems(data: bytes, contract: Contract) -> list[str]:
    """What does not hold in the bytes of a file: its form, and that it says this contract."""
    described = parse_onnx(data)
    problems = check_structure(data, described)
    if contract_of(described) != contract:
        problems.append("the contract read back differs from the one that was written")
    return problems


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                yield from _messages(child)
