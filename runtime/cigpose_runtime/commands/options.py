"""What `image`, `video` and `webcam` have in common: options, and what is made of them."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cigpose_runtime.draw import THRESHOLD
from cigpose_runtime.errors import FileError, InputError, InstallError, error_context
from cigpose_runtime.estimation.detector import (
    Detector,
    FixedBoxesDetector,
    WholeFrameDetector,
    YoloxDetector,
)
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.estimation.preprocess import boxes_to_crops
from cigpose_runtime.files import open_file
from cigpose_runtime.model_file.frame_contract import is_packed
from cigpose_runtime.model_file.onnx_graph import read_onnx_file
from cigpose_runtime.model_file.reader import read_metadata_file

DEVICES = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider", "CPUExecutionProvider"),
    "directml": ("DmlExecutionProvider", "CPUExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider", "CPUExecutionProvider"),
}

EXTRA = {"PIL": "Pillow", "av": "PyAV", "rich": "rich"}

DetectorFor = Callable[[Path], Detector | None]
"""The detector for the picture or video at a path; None where the model finds the people."""


def require_extra() -> None:
    """Raises InstallError with the one line that installs what is missing."""
    missing = [name for module, name in EXTRA.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InstallError(
            f"expected {', '.join(EXTRA.values())}, found no {', '.join(missing)}; "
            'run: pip install "cigpose-runtime[cli]"'
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model runs, on whom, and how."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="CIGPose ONNX file")
    people = parser.add_argument_group(
        "where the people are (one of these, unless a detector is packed into the model)"
    )
    chosen = people.add_mutually_exclusive_group()
    chosen.add_argument("--detector", type=Path, metavar="FILE", help="YOLOX ONNX file")
    chosen.add_argument("--boxes", type=Path, metavar="FILE", help="JSON with boxes, see README")
    chosen.add_argument(
        "--whole-frame", action="store_true", help="one person, who fills the frame"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirror image")
    parser.add_argument(
        "--threshold",
        type=float,
        default=THRESHOLD,
        metavar="SCORE",
        help=f"least keypoint score that is drawn  [default: {THRESHOLD}]",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="[default: cpu]")
    parser.add_argument("--threads", type=count, metavar="N", help="[default: all cores]")
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE.json", help="in place of what the model carries"
    )


def count(text: str) -> int:
    """A number of things, at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def open_model(args: argparse.Namespace, *, alone: bool) -> PoseModel | FrameModel:
    """The model that the options ask for. alone: no other thread works while it runs.

    Raises InputError for options that a packed file has decided already.
    """
    providers = DEVICES[args.device]
    if is_packed(read_onnx_file(args.model)):
        if args.flip or args.metadata is not None:
            option = "--flip" if args.flip else "--metadata"
            raise InputError(
                f"{option}: expected a model that is not packed, found {args.model}, which has "
                "it inside or not; leave the option out, or pack the model again"
            )
        return FrameModel(args.model, providers=providers, threads=args.threads, spinning=alone)
    override = None
    if args.metadata is not None:
        override = read_metadata_file(args.metadata, read_onnx_file(args.model))
    return PoseModel(
        args.model,
        override=override,
        providers=providers,
        threads=args.threads,
        spinning=alone,
        flip=args.flip,
    )


def open_detector(
    args: argparse.Namespace, model: PoseModel | FrameModel, *, alone: bool
) -> DetectorFor:
    """The detector that the options ask for, by the path of a picture or video.

    Raises InputError where neither they nor the model say where the people are, or both do.
    """
    is_asked = args.detector is not None or args.boxes is not None or args.whole_frame
    finds_people = isinstance(model, FrameModel) and model.finds_people
    if is_asked == finds_people:
        expected, found = ("none", "one") if is_asked else ("one", "none")
        raise InputError(
            f"{args.model}: expected {expected} of --detector, --boxes and --whole-frame, found "
            f"{found}; a model needs one unless a detector is packed into it"
        )
    if finds_people:
        return lambda _path: None
    if args.detector is not None:
        yolox = YoloxDetector(
            args.detector, providers=DEVICES[args.device], threads=args.threads, spinning=alone
        )
        return lambda _path: yolox
    if args.boxes is not None:
        return read_boxes(args.boxes)
    return lambda _path: WholeFrameDetector()


def read_boxes(path: Path) -> DetectorFor:
    """Boxes from a JSON file: [[left, top, right, bottom], ...] or {file name: such a list}.

    Raises FileError for another form, InputError for boxes without area or a picture that is not
    in the file.
    """
    with open_file(path, "a JSON file with boxes") as file:
        try:
            content: Any = json.load(file)
        except ValueError as error:
            raise FileError(f"{path}: expected JSON, found none ({error}); correct it") from error
    with error_context(path):
        if isinstance(content, dict):
            named = {name: _detector_of(boxes, name) for name, boxes in content.items()}

            def by_name(picture: Path) -> Detector:
                if picture.name not in named:
                    raise InputError(
                        f"{path}: expected boxes for {picture.name}, found none; add an entry, "
                        "an empty list if nobody is there"
                    )
                return named[picture.name]

            return by_name
        fixed = _detector_of(content, "all pictures")
    return lambda _path: fixed


def _detector_of(boxes: Any, what: str) -> Detector:
    if not isinstance(boxes, list):
        raise InputError(
            f"expected a list of [left, top, right, bottom] for {what}, found "
            f"{type(boxes).__name__}; correct it"
        )
    with error_context(what):
        boxes_to_crops(boxes, (1, 1))  # says what is wrong with them
    return FixedBoxesDetector(boxes)
