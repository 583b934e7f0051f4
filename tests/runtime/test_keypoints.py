import runpy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from cigpose_runtime.keypoints import COCO, COCO_WHOLEBODY, CROWDPOSE, KEYPOINT_SETS, KeypointSet

MMPOSE_FILES = {"coco": COCO, "crowdpose": CROWDPOSE, "coco_wholebody": COCO_WHOLEBODY}


@pytest.fixture(params=MMPOSE_FILES)
def set_and_mmpose_info(request):
    """A keypoint set and what MMPose's dataset file of it says; mmpose is not imported."""
    spec = find_spec("mmpose")
    if spec is None:
        pytest.skip("mmpose is not installed")
    (package,) = spec.submodule_search_locations
    file = Path(package, ".mim/configs/_base_/datasets", f"{request.param}.py")
    return MMPOSE_FILES[request.param], runpy.run_path(str(file))["dataset_info"]


def test_names_are_those_of_mmpose(set_and_mmpose_info):
    keypoints, info = set_and_mmpose_info
    by_id = sorted(info["keypoint_info"].values(), key=lambda keypoint: keypoint["id"])
    assert keypoints.names == tuple(keypoint["name"] for keypoint in by_id)


def test_skeleton_is_that_of_mmpose(set_and_mmpose_info):
    keypoints, info = set_and_mmpose_info
    links = [info["skeleton_info"][index]["link"] for index in range(len(info["skeleton_info"]))]
    assert [tuple(keypoints.names[i] for i in pair) for pair in keypoints.skeleton] == links


def test_flip_indices_are_the_swaps_of_mmpose(set_and_mmpose_info):
    keypoints, info = set_and_mmpose_info
    swaps = [info["keypoint_info"][index]["swap"] for index in range(len(keypoints.names))]
    assert [keypoints.names[index] for index in keypoints.flip_indices] == [
        swap or name for swap, name in zip(swaps, keypoints.names, strict=True)
    ]


def test_oks_sigmas_are_those_of_mmpose(set_and_mmpose_info):
    keypoints, info = set_and_mmpose_info
    assert list(keypoints.oks_sigmas) == info["sigmas"]


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=lambda k: k.dataset)
def test_flipping_twice_changes_nothing(keypoints: KeypointSet):
    flip = keypoints.flip_indices
    assert [flip[index] for index in flip] == list(range(len(keypoints.names)))


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=lambda k: k.dataset)
def test_flip_pairs_go_from_left_to_right_and_no_index_is_in_two(keypoints: KeypointSet):
    indices = [index for pair in keypoints.flip_pairs for index in pair]
    assert len(set(indices)) == len(indices)
    assert all(
        "right" not in keypoints.names[left] and "left" not in keypoints.names[right]
        for left, right in keypoints.flip_pairs
    )


def test_sets_are_found_by_name():
    expected = {"coco": COCO, "crowdpose": CROWDPOSE, "coco-wholebody": COCO_WHOLEBODY}
    assert expected == KEYPOINT_SETS


def test_whole_body_parts_are_those_of_the_names():
    # The lengths and the order are those of the data set's paper: 17 + 6 + 68 + 21 + 21.
    lengths = {part: where.stop - where.start for part, where in COCO_WHOLEBODY.parts.items()}
    assert lengths == {"body": 17, "foot": 6, "face": 68, "left hand": 21, "right hand": 21}
    names = COCO_WHOLEBODY.names
    assert [name for where in COCO_WHOLEBODY.parts.values() for name in names[where]] == [*names]
    first = {part: names[where][0] for part, where in COCO_WHOLEBODY.parts.items()}
    assert first == {
        "body": "nose",
        "foot": "left_big_toe",
        "face": "face-0",
        "left hand": "left_hand_root",
        "right hand": "right_hand_root",
    }


def test_parts_are_told_by_the_keypoints_and_not_by_their_number():
    others = tuple(f"point {index}" for index in range(133))
    assert replace(COCO_WHOLEBODY, names=others).parts == {}
    assert replace(COCO_WHOLEBODY, dataset="coco-ubody").parts == COCO_WHOLEBODY.parts
    assert COCO.parts == CROWDPOSE.parts == {}
