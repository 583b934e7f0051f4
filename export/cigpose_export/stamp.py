"""Cleans a graph of everything that is not computation and writes the contract into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from google.protobuf.message import Message

from cigpose_export import __version__
from cigpose_export.checkpoints.load import Checkpoint
from cigpose_export.onnx_graph import IR_VERSION, OPSET
from cigpose_export.openmmlab import Config
from cigpose_export.tools import tool_versions
from cigpose_export.variants import Variant
from cigpose_runtime import METADATA_KEY, SCHEMA_VERSION, Contract, SourceCheckpoint
from cigpose_runtime.keypoints import KEYPOINT_SETS

LICENSE = "Apache-2.0"
ATTRIBUTION = (
    "CIGPose by 53mins (https://github.com/53mins/CIGPose), built on MMPose by OpenMMLab "
    "(https://github.com/open-mmlab/mmpose)"
)


def build_contract(variant: Variant, config: Config, checkpoint: Checkpoint) -> Contract:
    """What a user needs to run the model, from its config and checkpoint."""
    head, preprocessor = config.model.head, config.model.data_preprocessor
    keypoints = KEYPOINT_SETS[head.out_channels]
    width, height = head.input_size
    return Contract(
        schema_version=SCHEMA_VERSION,
        name=variant.name,
        dataset=variant.dataset,
        num_keypoints=head.out_channels,
        input_w=width,
        input_h=height,
        split_ratio=float(head.simcc_split_ratio),
        mean=_triple(preprocessor.mean),
        std=_triple(preprocessor.std),
        color_order="rgb" if preprocessor.bgr_to_rgb else "bgr",
        box_padding=float(config.box_padding),
        decode="simcc-argmax",
        keypoint_names=keypoints.names,
        skeleton=keypoints.skeleton,
        flip_pairs=keypoints.flip_pairs,
        oks_sigmas=keypoints.oks_sigmas,
        weights=checkpoint.weights,
        source_checkpoint=SourceCheckpoint(checkpoint.path.name, checkpoint.sha256),
        tools=tuple(sorted(tool_versions().items())),
        opset=OPSET,
        license=LICENSE,
        attribution=ATTRIBUTION,
    )


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


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if isinstance(value, Message) else value:
                yield from _messages(child)
