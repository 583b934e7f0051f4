"""The three keypoint sets that CIGPose models predict.

Values are those of MMPose 1.3.2, configs/_base_/datasets/{coco,crowdpose,coco_wholebody}.py;
a test compares every one. The skeletons are for display; the graph inside the models has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, chain

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class KeypointSet:
    """K keypoints in the order of a model's outputs.

    dataset: the name of the set, by which KEYPOINT_SETS finds it.
    names: K names.
    skeleton: the index pairs that a drawing connects.
    flip_pairs: the index pairs that swap when the picture is mirrored; the rest stay.
    oks_sigmas: K standard deviations of the annotation, relative to the person's scale, as
        object keypoint similarity uses them.
    """

    dataset: str
    names: tuple[str, ...]
    skeleton: Pairs
    flip_pairs: Pairs
    oks_sigmas: tuple[float, ...]

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """(K,) the keypoint of the mirrored picture that is keypoint k of the original one."""
        indices = list(range(len(self.names)))
        for left, right in self.flip_pairs:
            indices[left], indices[right] = right, left
        return tuple(indices)

    @property
    def parts(self) -> Mapping[str, slice]:
        """Where body, foot, face, left hand and right hand are; empty unless these are the
        keypoints of COCO-WholeBody."""
        return _WHOLEBODY_PARTS if self.names == _WHOLEBODY_NAMES else {}


_SIDES = ("left", "right")
_LIMB_JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FOOT = ("big_toe", "small_toe", "heel")
_HAND = ("hand_root", *(f"{finger}{joint}" for finger in _FINGERS for joint in (1, 2, 3, 4)))


def _joint_by_joint(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in _SIDES)


def _side_by_side(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for side in _SIDES for part in parts)


def _left_right_pairs(names: tuple[str, ...]) -> Pairs:
    return tuple(
        (index, names.index(name.replace("left_", "right_", 1)))
        for index, name in enumerate(names)
        if name.startswith("left_")
    )


_COCO_NAMES = ("nose", *_joint_by_joint("eye", "ear", *_LIMB_JOINTS))
_CROWDPOSE_NAMES = (*_joint_by_joint(*_LIMB_JOINTS), "top_head", "neck")
_NAMES_BY_PART = {
    "body": _COCO_NAMES,
    "foot": _side_by_side(*_FOOT),
    "face": tuple(f"face-{index}" for index in range(68)),
    **{f"{side} hand": tuple(f"{side}_{part}" for part in _HAND) for side in _SIDES},
}
_WHOLEBODY_NAMES = tuple(chain(*_NAMES_BY_PART.values()))
_ENDS = accumulate(map(len, _NAMES_BY_PART.values()))
_WHOLEBODY_PARTS = {
    part: slice(end - len(names), end)
    for (part, names), end in zip(_NAMES_BY_PART.items(), _ENDS, strict=True)
}

# fmt: off
_COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)
_CROWDPOSE_SKELETON = (
    (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4),
    (3, 5), (12, 13), (1, 13), (0, 13),
)
_FEET_SKELETON = ((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22))

_LIMB_SIGMAS = (
    0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)
_COCO_SIGMAS = (0.026, 0.025, 0.025, 0.035, 0.035, *_LIMB_SIGMAS)
_CROWDPOSE_SIGMAS = (*_LIMB_SIGMAS, 0.079, 0.079)
_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032,
    0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011,
    0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010,
    0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
    0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007,
    0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
)
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024,
    0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)

# Runs of face points that mirror each other: the first of each side, and how many follow, upwards
# on one side and downwards on the other (300-W's 68 points).
_FACE_MIRRORS = (
    (0, 16, 8),                            # jaw
    (17, 26, 5),                           # brows
    (31, 35, 2),                           # nostrils
    (36, 45, 4), (40, 47, 2),              # upper lids with corners, lower lids
    (48, 54, 3), (55, 59, 2),              # outer lips
    (60, 64, 2), (65, 67, 1),              # inner lips
)
# fmt: on


def _face_flip_pairs() -> Pairs:
    start = _WHOLEBODY_NAMES.index("face-0")
    return tuple(
        (start + first + step, start + last - step)
        for first, last, count in _FACE_MIRRORS
        for step in range(count)
    )


def _hand_skeleton(side: str) -> Pairs:
    """Each finger is a chain that starts at the hand's root."""
    root = _WHOLEBODY_NAMES.index(f"{side}_hand_root")
    return tuple(
        (tip - 1 if joint else root, tip)
        for finger in range(len(_FINGERS))
        for joint, tip in enumerate(range(root + 1 + 4 * finger, root + 5 + 4 * finger))
    )


COCO = KeypointSet(
    dataset="coco",
    names=_COCO_NAMES,
    skeleton=_COCO_SKELETON,
    flip_pairs=_left_right_pairs(_COCO_NAMES),
    oks_sigmas=_COCO_SIGMAS,
)
CROWDPOSE = KeypointSet(
    dataset="crowdpose",
    names=_CROWDPOSE_NAMES,
    skeleton=_CROWDPOSE_SKELETON,
    flip_pairs=_left_right_pairs(_CROWDPOSE_NAMES),
    oks_sigmas=_CROWDPOSE_SIGMAS,
)
COCO_WHOLEBODY = KeypointSet(
    dataset="coco-wholebody",
    names=_WHOLEBODY_NAMES,
    skeleton=_COCO_SKELETON + _FEET_SKELETON + _hand_skeleton("left") + _hand_skeleton("right"),
    flip_pairs=tuple(sorted(_left_right_pairs(_WHOLEBODY_NAMES) + _face_flip_pairs())),
    oks_sigmas=_COCO_SIGMAS + _FEET_SIGMAS + _FACE_SIGMAS + _HAND_SIGMAS + _HAND_SIGMAS,
)

KEYPOINT_SETS: dict[str, KeypointSet] = {
    keypoints.dataset: keypoints for keypoints in (COCO, CROWDPOSE, COCO_WHOLEBODY)
}
"""The keypoint sets by name: coco, crowdpose and coco-wholebody."""
