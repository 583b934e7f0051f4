"""The ways in which pose estimates are evaluated, as MMPose 1.3.2 configures them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cigpose_runtime import Contract, keypoints
from cigpose_runtime.writers import WHOLE_BODY_FIELDS

SCORE_THRESHOLD = 0.2
"""A person's score is the box's score times the mean of the keypoint scores above this."""

NMS_THRESHOLD = 0.9
"""Of two people that are this similar (OKS), the one with the higher score is kept."""


@dataclass(frozen=True)
class Protocol:
    """One data set's.

    fields: the annotation's lists of keypoints, in the order of the model's, with their lengths.
    parts: by what is evaluated, its fields. crowded: whether the figures are CrowdPose's, by how
    crowded a picture is; such annotations have no area, and similarity is relative to 0.53 of the
    box. published: the manifest's names of the figures.
    """

    name: str
    fields: Mapping[str, int]
    parts: Mapping[str, tuple[str, ...]]
    crowded: bool
    published: Mapping[str, str]

    @property
    def num_keypoints(self) -> int:
        """K of the models that are evaluated."""
        return sum(self.fields.values())


COCO = Protocol(
    name="COCO",
    fields={"keypoints": len(keypoints.COCO.names)},
    parts={"": ("keypoints",)},
    crowded=False,
    published={"ap": "AP", "ar": "AR"},
)
COCO_WHOLEBODY = Protocol(
    name="COCO-WholeBody",
    fields={
        WHOLE_BODY_FIELDS[part]: where.stop - where.start
        for part, where in keypoints.COCO_WHOLEBODY.parts.items()
    },
    parts={
        **{part: (field,) for part, field in WHOLE_BODY_FIELDS.items()},
        "whole": tuple(WHOLE_BODY_FIELDS.values()),
    },
    crowded=False,
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
    fields={"keypoints": len(keypoints.CROWDPOSE.names)},
    parts={"": ("keypoints",)},
    crowded=True,
    published={"ap": "AP", "ap_easy": "AP (E)", "ap_medium": "AP (M)", "ap_hard": "AP (H)"},
)

PROTOCOLS = {
    "coco": COCO,
    "drawn": COCO,
    "crowdpose": CROWDPOSE,
    "coco-wholebody": COCO_WHOLEBODY,
    "coco-ubody": COCO_WHOLEBODY,
}
"""By the data set that a model's contract names."""


def protocol_of(contract: Contract) -> Protocol:
    """That of the data set that a model names; for others, COCO's, with the model's keypoints.

    So Halpe-26 and data of one's own are evaluated, annotated in COCO's form.
    """
    return PROTOCOLS.get(contract.dataset) or replace(
        COCO, name=contract.dataset, fields={"keypoints": contract.num_keypoints}, published={}
    )
