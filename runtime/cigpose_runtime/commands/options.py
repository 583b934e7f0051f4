"""What `image`, `video` and `webcam` have in common: options, and what is made of them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from cigpose_runtime.commands.device_check import compare_with_cpu
from cigpose_runtime.errors import (
    InputError,
    InstallError,
    quoted,
)
from cigpose_runtime.estimation.frame_model import FrameModel
from cigpose_runtime.estimation.pose_model import MAX_BATCH, PoseModel
from cigpose_runtime.files import Named
from cigpose_runtime.machine import cores
from cigpose_runtime.model_file.contract import Contract
from cigpose_runtime.model_file.frame_contract import FrameContract, read_packed
from cigpose_runtime.model_file.onnx_graph import read_onnx_file
from cigpose_runtime.model_file.reader import read_metadata_file
from cigpose_runtime.terminal import echo

Model = TypeVar("Model", PoseModel, FrameModel)

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


def share(text: str) -> float:
    """An option's number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {quoted(text)}")
    return number


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
    """Adds the options that say which model runs, and how."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="CIGPose ONNX file")
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


def open_model(
    args: argparse.Namespace, *, alone: bool, at_once: int = 1, max_batch: int = MAX_BATCH
) -> PoseModel | FrameModel:
    """The model that the options ask for, packed or not.

    alone: no other thread works meanwhile. at_once: threads that call it at the same time; they
    share its threads. max_batch: of each, as of PoseModel.
    Raises InputError for options that a packed file has decided already.
    """
    threads = args.threads if at_once == 1 else max(1, (args.threads or cores()) // at_once)
    if packed_contract(args) is not None:
        return open_on_device(
            lambda providers: FrameModel(
                args.model, providers=providers, threads=threads, spinning=alone
            ),
            args.device,
        )
    return open_on_device(
        lambda providers: PoseModel(
            args.model,
            override=read_override(args),
            providers=providers,
            threads=threads,
            spinning=alone,
            max_batch=max_batch,
            flip=args.flip,
        ),
        args.device,
    )


def packed_contract(args: argparse.Namespace) -> FrameContract | None:
    """What a packed file says of itself; None for a model that is not packed.

    Raises InputError for options that a packed file has decided already.
    """
    packed = read_packed(args.model)
    if packed is not None and (args.flip or args.metadata is not None):
        option = "--flip" if args.flip else "--metadata"
        raise InputError(
            f"{option}: expected a model that is not packed, found {args.model}, which has it "
            "inside or not; leave the option out, or pack the model again"
        )
    return packed


def open_on_device(open_by: Callable[[Sequence[str]], Model], device: str) -> Model:
    """The model by the providers of this device; says where the CPU would be right, or faster."""
    model = open_by(DEVICES[device])
    if device != "cpu":
        for line in compare_with_cpu(model, open_by(DEVICES["cpu"]), device):
            echo(line, err=True)
    return model


def read_override(args: argparse.Namespace) -> Contract | None:
    """The metadata that are given in place of what the model carries."""
    if args.metadata is None:
        return None
    return read_metadata_file(args.metadata, read_onnx_file(args.model))
