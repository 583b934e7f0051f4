"""MMEngine, MMCV and MMPose; nothing else imports them."""

from __future__ import annotations

import warnings

from cigpose_export.openmmlab.installed_packages import without_pkg_resources
from cigpose_export.openmmlab.placeholders import missing_packages_as_placeholders
from cigpose_export.openmmlab.yapf_cache import import_yapf_alone
from cigpose_runtime.errors import InstallError

try:
    with missing_packages_as_placeholders(), warnings.catch_warnings():
        # Deprecations of other people's code on a current Python and torch.
        warnings.simplefilter("ignore")
        import_yapf_alone()
        import mmengine
        from mmcv.cnn import ConvModule
        from mmengine.config import Config
        from mmengine.dataset import pseudo_collate
        from mmengine.logging import HistoryBuffer
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import DefaultScope
        from mmpose.codecs import SimCCLabel
        from mmpose.datasets.datasets.utils import parse_pose_metainfo
        from mmpose.datasets.transforms import (
            GetBBoxCenterScale,
            PackPoseInputs,
            RandomBBoxTransform,
            TopdownAffine,
        )
        from mmpose.models.heads import RTMCCHead, RTMWHead
        from mmpose.models.utils.csp_layer import ChannelAttention
        from mmpose.models.utils.rtmcc_block import RTMCCBlock, ScaleNorm
        from mmpose.registry import DATASETS, MODELS
except Exception as error:  # what a package built for another numpy raises is a ValueError
    raise InstallError(
        f"MMPose cannot be imported ({error}); run `make doctor` to see what to install"
    ) from error

without_pkg_resources(mmengine.config.config)

mmengine_version: str = mmengine.__version__

__all__ = [
    "DATASETS",
    "MODELS",
    "ChannelAttention",
    "Config",
    "ConvModule",
    "DefaultScope",
    "GetBBoxCenterScale",
    "HistoryBuffer",
    "PackPoseInputs",
    "RTMCCBlock",
    "RTMCCHead",
    "RTMWHead",
    "RandomBBoxTransform",
    "ScaleNorm",
    "SimCCLabel",
    "TopdownAffine",
    "mmengine_version",
    "parse_pose_metainfo",
    "pseudo_collate",
    "revert_sync_batchnorm",
]
