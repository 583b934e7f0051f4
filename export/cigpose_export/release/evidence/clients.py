"""What other people's clients take to run a model, for those that can.

Each client assumes something about every model. Where that does not hold for this one, there is
nothing for it here: it would run, and be wrong.
"""

from __future__ import annotations

import tomlkit

from cigpose_runtime import Contract
from cigpose_runtime.model_file.contract_fields import BOX_PADDING

CALISCOPE_CARD = ".caliscope.toml"
"""What follows a model's name in that of its card for caliscope."""

_SPLIT_RATIO = 2.0
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
"""ImageNet's, RGB."""

_THRESHOLD = 0.3
"""Of caliscope's own cards, and of our drawings."""


def caliscope_card(contract: Contract, name: str) -> str | None:
    """The model card by which caliscope 0.11.8 runs `name`.onnx beside it, in TOML.

    None for a model of another colour order, normalisation or split ratio than caliscope's code
    has (caliscope/trackers/onnx_tracker.py and model_decode.py).
    """
    if (contract.color_order, contract.mean, contract.std) != ("rgb", _MEAN, _STD):
        return None
    if contract.split_ratio != _SPLIT_RATIO:
        return None
    names = contract.keypoint_names
    document = {
        "model": {
            "name": name,
            "model_path": f"{name}.onnx",
            "format": "simcc",
            "input_size": [contract.input_w, contract.input_h],
            "confidence_threshold": _THRESHOLD,
        },
        "source": {"license": contract.license},
        "points": {point: index for index, point in enumerate(names)},
        "segments": {
            f"{names[a]}-{names[b]}": {"color": _color(names[a]), "points": [names[a], names[b]]}
            for a, b in contract.skeleton
        },
    }
    return tomlkit.dumps(document)


def _color(point: str) -> str:
    """As in caliscope's own cards: left green, right red."""
    return {"left": "g", "right": "r"}.get(point.partition("_")[0], "y")


def rtmlib_snippet(contract: Contract, name: str) -> str | None:
    """Python that runs `name`.onnx on photo.jpg by rtmlib 0.0.16.

    None for a model of another split ratio or box padding than rtmlib's code has
    (rtmlib/tools/pose_estimation/rtmpose.py). It passes channels on as they come, in OpenCV's
    order, whatever the model was trained on.
    """
    if (contract.split_ratio, contract.box_padding) != (_SPLIT_RATIO, BOX_PADDING):
        return None
    order = contract.color_order.upper()
    turned = {"RGB": "frame[..., ::-1]", "BGR": "frame"}[order]
    return f"""\
import cv2
from rtmlib import RTMPose

model = RTMPose(
    "{name}.onnx",
    model_input_size=({contract.input_w}, {contract.input_h}),
    mean={contract.mean},
    std={contract.std},
)
frame = cv2.imread("photo.jpg")
height, width = frame.shape[:2]
boxes = [[0, 0, width, height]]  # left, top, right, bottom of each person
keypoints, scores = model({turned}, boxes)  # {order}: rtmlib leaves the order to its caller
"""
