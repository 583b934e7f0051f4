"""What `image`, `video` and `webcam` have in common: options, and what is made of them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.commands.boxes import GivenFor, read_boxes
from cigpose_runtime.errors import (
    InputError,
    InstallError,
    quoted,
)
from cigpose_runtime.estimation.detector import (
    Detections,
    Detector,
    DetectorFor,
    WholeFrameDetector,
    YoloxDetector,
)
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import PoseModel
from cigpose_runtime.files import Named
from cigpose_runtime.model_file.contract import Contract
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
LABEL_EXTRA = {**EXTRA, "pyarrow": "PyArrow", "fsspec": "fsspec"}
RAY_EXTRA = {**LABEL_EXTRA, "ray": "Ray"}
"""The packages of the extras [cli], [label] and [ray], by the module that is imported."""


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """What reads an option's number within these bounds."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"expected a number from {least} to {most}, found {quoted(text)}"
            )
        return number

    return read


THREADS = whole_number(1, 1024)
"""Each has a stack of its own; the largest machines have some hundred cores."""


def require_extra(extra: str = "cli", packages: Mapping[str, str] = EXTRA) -> None:
    """Raises InstallError with the one line that installs what is missing."""
    missing = [name for module, name in packages.items() if not importlib.util.find_spec(module)]
    if missing:
        raise InstallError(
            f"expected {', '.join(packages.values())}, found no {', '.join(missing)}; "
            f'run: pip install "cigpose-runtime[{extra}]"'
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which model runs, on whom, and how."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="CIGPose ONNX file")
    people = parser.add_argument_group(
        "where the people are (one of these, unless a detector is packed into the model)"
    )
    chosen = people.add_mutually_exclusive_group()
    chosen.add_argument("--detector", type=Path, metavar="FILE", help="YOLOX ONNX file")
    chosen.add_argument(
        "--boxes", type=Path, metavar="FILE", help="boxes in a file: JSON, JSON lines, COCO, MOT"
    )
    chosen.add_argument(
        "--whole-frame", action="store_true", help="one person, who fills the frame"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirror image")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="[default: cpu]")
    parser.add_argument("--threads", type=THREADS, metavar="N", help="[default: all cores]")
    parser.add_argument(
        "--metadata", type=Path, metavar="FILE.json", help="in place of what the model carries"
    )


def add_smooth(parser: argparse.ArgumentParser) -> None:
    """Adds the option of those commands that track."""
    parser.add_argument(
        "--smooth",
        action="store_true",
        help="smooth each keypoint over time (One-Euro filter): less jitter, hardly any lag",
    )


def inputs(args: argparse.Namespace) -> list[Named]:
    """The files that these options name, none of which may be written to."""
    named = {
        "the model": args.model,
        "--detector": args.detector,
        "--boxes": args.boxes,
        "--metadata": args.metadata,
    }
    return [(what, path) for what, path in named.items() if path is not None]


def open_model(args: argparse.Namespace, *, alone: bool) -> PoseModel | FrameModel:
    """The model that the options ask for, packed or not. alone: no other thread works meanwhile.

    Raises InputError for options that a packed file has decided already.
    """
    if not is_packed(read_onnx_file(args.model)):
        return open_pose_model(args, alone=alone)
    if args.flip or args.metadata is not None:
        option = "--flip" if args.flip else "--metadata"
        raise InputError(
            f"{option}: expected a model that is not packed, found {args.model}, which has it "
            "inside or not; leave the option out, or pack the model again"
        )
    return FrameModel(
        args.model, providers=DEVICES[args.device], threads=args.threads, spinning=alone
    )


def open_pose_model(args: argparse.Namespace, *, alone: bool) -> PoseModel:
    """As open_model, for models that are not packed."""
    return PoseModel(
        args.model,
        override=read_override(args),
        providers=DEVICES[args.device],
        threads=args.threads,
        spinning=alone,
        flip=args.flip,
    )


def read_override(args: argparse.Namespace) -> Contract | None:
    """The metadata that are given in place of what the model carries."""
    if args.metadata is None:
        return None
    return read_metadata_file(args.metadata, read_onnx_file(args.model))


def open_detector_for(
    args: argparse.Namespace, model: PoseModel | FrameModel, *, alone: bool
) -> Callable[[Path], Detector | None]:
    """As open_detector, but boxes that cannot be used cost themselves, and boxes may go by frames.

    None for a model that finds the people itself.

    Raises InputError where the options say so, too.
    """
    if not isinstance(model, FrameModel) or not model.finds_people:
        return open_detector(args, alone=alone) if args.boxes is None else read_boxes(args.boxes)
    if args.detector is not None or args.boxes is not None or args.whole_frame:
        raise InputError(
            f"{args.model}: expected none of --detector, --boxes and --whole-frame, found one; a "
            "detector is packed into it"
        )
    return lambda _path: None


def open_detector(args: argparse.Namespace, *, alone: bool) -> DetectorFor:
    """The detector that the options ask for, by the path of a picture or video.

    Raises InputError where they ask for none.
    """
    if args.detector is not None:
        yolox = YoloxDetector(
            args.detector, providers=DEVICES[args.device], threads=args.threads, spinning=alone
        )
        return lambda _path: yolox
    if args.boxes is not None:
        return _strict(read_boxes(args.boxes))
    if args.whole_frame:
        return lambda _path: WholeFrameDetector()
    raise InputError(
        f"{args.model}: expected one of --detector, --boxes and --whole-frame, found none; a model "
        "needs one unless a detector is packed into it"
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
