"""Runs CIGPose whole-body pose estimators from ONNX files, and owns the contract of those files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cigpose_runtime.errors import (
    CigposeError,
    FileError,
    InputError,
    MetadataError,
    OnnxFileError,
    ProviderError,
)
from cigpose_runtime.keypoints import KEYPOINT_SETS, KeypointSet
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.model_file.contract_fields import (
    METADATA_KEY,
    REDUCED_SCHEMA_VERSION,
    SCHEMA_VERSION,
    Calibration,
    DerivedFrom,
    SourceCheckpoint,
)
from cigpose_runtime.model_file.frame_contract import FrameContract
from cigpose_runtime.model_file.onnx_graph import OnnxFile, ValueInfo, parse_onnx, read_onnx_file
from cigpose_runtime.model_file.reader import check_against_graph, contract_of, read_contract

if TYPE_CHECKING:
    from cigpose_runtime.estimation.detector import (
        Detections,
        Detector,
        FixedBoxesDetector,
        WholeFrameDetector,
    )
    from cigpose_runtime.estimation.frame_model import FrameModel
    from cigpose_runtime.estimation.mmdeploy_detector import MmdeployDetector
    from cigpose_runtime.estimation.open_detector import open_onnx_detector
    from cigpose_runtime.estimation.own_detector import FunctionDetector
    from cigpose_runtime.estimation.pose_model import PoseModel
    from cigpose_runtime.estimation.pose_pipeline import PosePipeline
    from cigpose_runtime.estimation.yolox import YoloxDetector
    from cigpose_runtime.poses import Poses
    from cigpose_runtime.tracking.smoothing import Smoother
    from cigpose_runtime.tracking.tracker import Tracker

__version__ = "0.1.0"

__all__ = [
    "KEYPOINT_SETS",
    "METADATA_KEY",
    "REDUCED_SCHEMA_VERSION",
    "SCHEMA_VERSION",
    "Calibration",
    "CigposeError",
    "Contract",
    "DerivedFrom",
    "Detections",
    "Detector",
    "FileError",
    "FixedBoxesDetector",
    "FrameContract",
    "FrameModel",
    "FunctionDetector",
    "InputError",
    "KeypointSet",
    "MetadataError",
    "MmdeployDetector",
    "OnnxFile",
    "OnnxFileError",
    "PoseModel",
    "PosePipeline",
    "Poses",
    "ProviderError",
    "Smoother",
    "SourceCheckpoint",
    "Tracker",
    "ValueInfo",
    "WholeFrameDetector",
    "YoloxDetector",
    "check_against_graph",
    "contract_of",
    "open_onnx_detector",
    "parse_onnx",
    "read_contract",
    "read_onnx_file",
]

# Imported when first asked for: reading a file's contract needs no numpy, and must work where a
# broken numpy is what the user is trying to find out about.
_NEED_NUMPY = {
    "Detections": "estimation.detector",
    "Detector": "estimation.detector",
    "FixedBoxesDetector": "estimation.detector",
    "FrameModel": "estimation.frame_model",
    "FunctionDetector": "estimation.own_detector",
    "MmdeployDetector": "estimation.mmdeploy_detector",
    "PoseModel": "estimation.pose_model",
    "PosePipeline": "estimation.pose_pipeline",
    "Poses": "poses",
    "Smoother": "tracking.smoothing",
    "Tracker": "tracking.tracker",
    "WholeFrameDetector": "estimation.detector",
    "open_onnx_detector": "estimation.open_detector",
    "YoloxDetector": "estimation.yolox",
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_NUMPY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_NEED_NUMPY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
