import runpy
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


def test_sets_are_found_by_their_number_of_keypoints():
    assert KEYPOINT_SETS == {17: COCO, 14: CROWDPOSE, 133: COCO_WHOLEBODY}
