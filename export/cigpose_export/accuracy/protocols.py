"""The three ways in which pose estimates are evaluated, as MMPose 1.3.2 configures them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCORE_THRESHOLD = 0.2
"""A person's score is its box's times the mean of the keypoint scores above this."""

NMS_THRESHOLD = 0.9
"""Of two people that are this similar (OKS), the surer one is kept."""


@dataclass(frozen=True)
class Protocol:
    """One data set's.

    fields: the annotation's lists of keypoints, in the order of the model's, with their lengths.
    kinds: by what is evaluated, xtcocotools' `iouType`. use_area: whether similarity is relative
    to the annotated area; else to 0.53 of the box. published: the manifest's names of the figures.
    """

    name: str
    num_keypoints: int
    fields: Mapping[str, int]
    kinds: Mapping[str, str]
    use_area: bool
    published: Mapping[str, str]


COCO = Protocol(
    name="COCO",
    num_keypoints=17,
    fields={"keypoints": 17},
    kinds={"": "keypoints"},
    use_area=True,
    published={"ap": "AP", "ar": "AR"},
)
COCO_WHOLEBODY = Protocol(
    name="COCO-WholeBody",
    num_keypoints=133,
    fields={
        "keypoints": 17,
        "foot_kpts": 6,
        "face_kpts": 68,
        "lefthand_kpts": 21,
        "righthand_kpts": 21,
    },
    kinds={
        "body": "keypoints_body",
        "foot": "keypoints_foot",
        "face": "keypoints_face",
        "left hand": "keypoints_lefthand",
        "right hand": "keypoints_righthand",
        "whole": "keypoints_wholebody",
    },
    use_area=True,
    published={
        "body_ap": "body AP",
        "foot_ap": "foot AP",
        "face_ap": "face AP",
        "hand_ap": "hand AP",
        "whole_ap": "whole AP",
    },
)
CROWDPOSE = Protocol(
    name="CrowdPose",
    num_keypoints=14,
    fields={"keypoints": 14},
    kinds={"": "keypoints_crowd"},
    use_area=False,
    published={"ap": "AP", "ap_easy": "AP (E)", "ap_medium": "AP (M)", "ap_hard": "AP (H)"},
)

PROTOCOLS = {protocol.num_keypoints: protocol for protocol in (COCO, COCO_WHOLEBODY, CROWDPOSE)}
"""By the number of keypoints."""
