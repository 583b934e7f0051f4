"""The contract of a model: what a user needs to run it, from its config and checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from cigpose_export.checkpoints.load import Checkpoint
from cigpose_export.graph.portable import OPSET
from cigpose_export.graph.versions import tool_versions
from cigpose_export.openmmlab import Config
from cigpose_export.variants import Variant
from cigpose_runtime import SCHEMA_VERSION, Contract, SourceCheckpoint

LICENSE = "Apache-2.0"
ATTRIBUTION = (
    "CIGPose by 53mins (https://github.com/53mins/CIGPose), built on MMPose by OpenMMLab "
    "(https://github.com/open-mmlab/mmpose)"
)


def build_contract(variant: Variant, config: Config, checkpoint: Checkpoint) -> Contract:
    """What a user needs to run the model, from its config and checkpoint."""
    head, preprocessor = config.model.head, config.model.data_preprocessor
    keypoints = variant.keypoints
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


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
