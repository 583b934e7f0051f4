"""Cleans a graph of everything that is not computation and writes the contract into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.message import Message

from cigpose_export import __version__
from cigpose_export.graph.portable import IR_VERSION
from cigpose_runtime import METADATA_KEY, Contract


def stamp(model: onnx.ModelProto, contract: Contract) -> bytes:
    """The bytes of a file: the graph without paths, doc strings and traces, and the contract."""
    stamped = onnx.ModelProto()
    stamped.CopyFrom(model)
    for message in _messages(stamped):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    stamped.ir_version = IR_VERSION
    stamped.producer_name = "cigpose-toolchain"
    stamped.producer_version = __version__
    stamped.graph.name = str(contract.name)
    onnx.helper.set_model_props(stamped, {METADATA_KEY: contract.to_json()})
    data: bytes = stamped.SerializeToString(deterministic=True)
    return data


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                yield from _messages(child)
