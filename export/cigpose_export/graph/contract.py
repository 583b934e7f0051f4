"""The contract of a model: what a user needs to run it, from its config and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cigpose_export.checkpoints.load import Checkpoint
from cigpose_export.graph.opset import OPSET
from cigpose_export.graph.tool_versions import tool_versions
from cigpose_export.modeling.keypoints_of_config import keypoints_of
from cigpose_export.modeling.topdown_simcc import CIG_HEADS, type_name
from cigpose_export.openmmlab import Config
from cigpose_export.own_model import OwnModel
from cigpose_export.project import Model
from cigpose_runtime import SCHEMA_VERSION, Contract, SourceCheckpoint

LICENSE = "Apache-2.0"
NOT_STATED = "not stated"
"""The licence of a user's own weights: neither config nor checkpoint has a place for it."""

MMPOSE = "MMPose by OpenMMLab (https://github.com/open-mmlab/mmpose)"
CIGPOSE = "CIGPose by 53mins (https://github.com/53mins/CIGPose)"
ATTRIBUTION = f"{CIGPOSE}, built on {MMPOSE}"


def build_contract(model: Model, config: Config, checkpoint: Checkpoint) -> Contract:
    """What a user needs to run the model, from its config and checkpoint.

    Raises ConfigError where these do not say enough of the keypoints of a user's own model.
    """
    head = config.model.head
    preprocessor = config.model.get("data_preprocessor") or {}
    if isinstance(model, OwnModel):
        keypoints = keypoints_of(model, config, checkpoint.dataset_meta)
        dataset, license_ = keypoints.dataset, NOT_STATED
        architecture = ATTRIBUTION if type_name(head) in CIG_HEADS else MMPOSE
        attribution = f"a user's own checkpoint; architecture: {architecture}"
    else:
        keypoints, dataset = model.keypoints, model.dataset
        license_, attribution = LICENSE, ATTRIBUTION
    width, height = head.input_size
    return Contract(
        schema_version=SCHEMA_VERSION,
        name=model.name,
        dataset=dataset,
        num_keypoints=head.out_channels,
        input_w=width,
        input_h=height,
        split_ratio=float(head.simcc_split_ratio),
        mean=_triple(preprocessor.get("mean") or (0, 0, 0)),
        std=_triple(preprocessor.get("std") or (1, 1, 1)),
        color_order="rgb" if _swaps_channels(preprocessor) else "bgr",
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
        license=license_,
        attribution=attribution,
    )


def _swaps_channels(preprocessor: Mapping[str, Any]) -> bool:
    """Whether the model's channels are RGB: pictures are read as BGR, and either flag swaps."""
    return any(preprocessor.get(key) for key in ("bgr_to_rgb", "rgb_to_bgr"))


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
