"""Runs CIGPose whole-body pose estimators from ONNX files, and owns the contract of those files."""

from cigpose_runtime.contract import METADATA_KEY, SCHEMA_VERSION, Contract, SourceCheckpoint
from cigpose_runtime.errors import (
    CigposeError,
    FileError,
    InputError,
    MetadataError,
    OnnxFileError,
)
from cigpose_runtime.keypoints import KEYPOINT_SETS, KeypointSet
from cigpose_runtime.onnx_file import OnnxFile, ValueInfo, parse_onnx, read_onnx_file
from cigpose_runtime.reader import check_against_graph, contract_of, read_contract

__version__ = "0.1.0"

__all__ = [
    "KEYPOINT_SETS",
    "METADATA_KEY",
    "SCHEMA_VERSION",
    "CigposeError",
    "Contract",
    "FileError",
    "InputError",
    "KeypointSet",
    "MetadataError",
    "OnnxFile",
    "OnnxFileError",
    "SourceCheckpoint",
    "ValueInfo",
    "check_against_graph",
    "contract_of",
    "parse_onnx",
    "read_contract",
    "read_onnx_file",
]
