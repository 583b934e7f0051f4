"""Where the people are: the options that say so, and the detector that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.commands.boxes import GivenFor, read_boxes
from cigpose_runtime.commands.options import DEVICES, share, whole_number
from cigpose_runtime.errors import InputError
from cigpose_runtime.estimation.detector import (
    MAX_CANDIDATES,
    Detections,
    Detector,
    DetectorFor,
    WholeFrameDetector,
)
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.open_detector import open_onnx_detector
from cigpose_runtime.estimation.own_detector import (
    FunctionDetector,
    module_file,
    names_function,
)
from cigpose_runtime.estimation.pose_model import PoseModel

DETECTOR_OPTIONS = {
    "--detector-threshold": "score_threshold",
    "--detector-nms": "nms_threshold",
    "--max-people": "max_people",
}
"""What a detector that is no file of boxes can be told, by its keyword."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where the people are."""
    people = parser.add_argument_group(
        "where the people are (one of these, unless a detector is packed into the model)"
    )
    chosen = people.add_mutually_exclusive_group()
    chosen.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="YOLOX or RTMDet in an ONNX file, or a Python function as MODULE:FUNCTION",
    )
    chosen.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes in a file: JSON, JSON lines, COCO, MOT"
    )
    chosen.add_argument(
        "--whole-frame", action="store_true", help="one person, who fills the frame"
    )
    kept = parser.add_argument_group("whom the detector keeps")
    kept.add_argument(
        "--detector-threshold",
        dest="score_threshold",
        type=share,
        metavar="SCORE",
        help="the least score of a box  [default: 0.35; of a function, any]",
    )
    kept.add_argument(
        "--detector-nms",
        dest="nms_threshold",
        type=share,
        metavar="IOU",
        help="the largest overlap of two boxes  [default: 0.45; of what suppresses itself, any]",
    )
    kept.add_argument(
        "--max-people",
        dest="max_people",
        type=whole_number(1, MAX_CANDIDATES),
        metavar="N",
        help="keep those of the highest scores  [default: all]",
    )


def open_detector_for(
    args: argparse.Namespace, model: PoseModel | FrameModel, *, alone: bool, strict: bool = False
) -> Callable[[Path], Detector | None]:
    """The detector that the options ask for, by the path of a picture or video.

    None for a model that finds the people itself. strict: whether boxes that cannot be used are an
    error, and so are those that go by frames; else they cost themselves.
    Raises InputError where the options ask for none, or for one beside such a model.
    """
    detector_options(args)
    if isinstance(model, FrameModel) and model.finds_people:
        require_no_detector(args)
        return lambda _path: None
    if args.detector is not None:
        detector = _opened(args, alone=alone)
        return lambda _path: detector
    if args.boxes is not None:
        return _strict(read_boxes(args.boxes)) if strict else read_boxes(args.boxes)
    if args.whole_frame:
        return lambda _path: WholeFrameDetector()
    raise InputError(
        f"{args.model}: expected one of --detector, --boxes and --whole-frame, found none; a model "
        "needs one unless a detector is packed into it"
    )


def require_no_detector(args: argparse.Namespace) -> None:
    """Raises InputError for options that say where the people are, of a model that finds them."""
    if args.detector is not None or args.boxes is not None or args.whole_frame:
        raise InputError(
            f"{args.model}: expected none of --detector, --boxes and --whole-frame, found one; a "
            "detector is packed into it"
        )


def detector_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say of whom it keeps, by keyword; raises InputError without a detector."""
    given = {option: getattr(args, name) for option, name in DETECTOR_OPTIONS.items()}
    for option, value in given.items():
        if value is not None and args.detector is None:
            raise InputError(
                f"{option}: expected --detector beside it, found none; add one or leave it out"
            )
    return {DETECTOR_OPTIONS[option]: value for option, value in given.items() if value is not None}


def detector_file(args: argparse.Namespace) -> Path | None:
    """The file that decides what the detector finds: the model, or a function's module."""
    function = detector_function(args)
    return args.detector if function is None else module_file(function)


def detector_function(args: argparse.Namespace) -> str | None:
    """MODULE:FUNCTION, if the detector is one."""
    is_one = args.detector is not None and names_function(args.detector)
    return str(args.detector) if is_one else None


def _opened(args: argparse.Namespace, *, alone: bool) -> Detector:
    options = detector_options(args)
    function = detector_function(args)
    if function is not None:
        return FunctionDetector(function, **options)
    return open_onnx_detector(
        args.detector,
        providers=DEVICES[args.device],
        threads=args.threads,
        spinning=alone,
        **options,
    )


def _strict(given_for: GivenFor) -> DetectorFor:
    """Boxes that go by pictures, of which one that cannot be used is the picture's error."""

    def detector_for(path: Path) -> Detector:
        given = given_for(path)
        if given.by_frame:
            raise InputError(
                f"--boxes: expected boxes for pictures, found some by frames, for {path.name}; "
                "give them to `video`"
            )

        def detect(frame: Pixels) -> Detections:
            found = given(frame)
            for error in given.take_errors(path.name):
                raise error
            return found

        return detect

    return detector_for
