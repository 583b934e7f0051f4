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
    kinds: by what is evaluated, xtcocotools' `iouType`. use_area: whether similarity is relative
    to the annotated area; else to 0.53 of the box. published: the manifest's names of the figures.
    """

    name: str
    fields: Mapping[str, int]
    kinds: Mapping[str, str]
    use_area: bool
    published: Mapping[str, str]

    @property
    def num_keypoints(self) -> int:
        """K of the models that are evaluated."""
        return sum(self.fields.values())


COCO = Protocol(
    name="COCO",
    fields={"keypoints": len(keypoints.COCO.names)},
    kinds={"": "keypoints"},
    use_area=True,
    published={"ap": "AP", "ar": "AR"},
)
COCO_WHOLEBODY = Protocol(
    name="COCO-WholeBody",
    fields={
        WHOLE_BODY_FIELDS[part]: where.stop - where.start
        for part, where in keypoints.COCO_WHOLEBODY.parts.items()
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
    fields={"keypoints": len(keypoints.CROWDPOSE.names)},
    kinds={"": "keypoints_crowd"},
    use_area=False,
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
