from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cigpose_runtime import KEYPOINT_SETS, InputError
from cigpose_runtime.estimation.decode import average_flipped, decode_simcc, to_frame
from cigpose_runtime.estimation.preprocess import boxes_to_crops

NAN, INF = float("nan"), float("inf")


def random_outputs(count=3, num_keypoints=17, bins_x=384, bins_y=512, seed=0):
    rng = np.random.default_rng(seed)
    offset = rng.uniform(-4, 0, (count, num_keypoints, 1))  # some keypoints are not found
    return [
        (rng.standard_normal((count, num_keypoints, bins)) + offset).astype(np.float32)
        for bins in (bins_x, bins_y)
    ]


def same_bits(ours, theirs) -> bool:
    return (ours.dtype, ours.shape, ours.tobytes()) == (
        theirs.dtype,
        theirs.shape,
        theirs.tobytes(),
    )


# Few different values: ties everywhere, and negative zeros.
shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
logits = st.sampled_from([-INF, -2.0, -0.0, 0.0, 1e-30, 0.25, 0.5, 3e38]).map(np.float32)


@st.composite
def outputs_with_ties(draw):
    n, k, *bins = draw(shapes)
    simcc = [draw(hnp.arrays(np.float32, (n, k, count), elements=logits)) for count in bins]
    for vectors in simcc:
        vectors[..., 0] = np.maximum(vectors[..., 0], -5)  # a finite peak
    return simcc


# Decoding


@pytest.mark.parametrize("split_ratio", [2.0, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_decoding_is_that_of_mmpose(mmpose, split_ratio, seed):
    simcc = random_outputs(seed=seed)
    codec = mmpose.SimCCLabel((192, 256), simcc_split_ratio=split_ratio)
    keypoints, scores = decode_simcc(*simcc, split_ratio)
    assert 0 < np.mean(scores > 0) < 1
    theirs = codec.decode(*simcc)
    assert same_bits(keypoints, theirs[0])
    assert same_bits(scores, theirs[1])


@given(outputs_with_ties(), st.floats(0.1, 10))
def test_ties_and_zeros_are_decoded_as_mmpose_does(mmpose, simcc, split_ratio):
    codec = mmpose.SimCCLabel((192, 256), simcc_split_ratio=split_ratio)
    ours, theirs = decode_simcc(*simcc, split_ratio), codec.decode(*simcc)
    assert same_bits(ours[0], theirs[0])
    assert same_bits(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("x", "y", "keypoint", "score"),
    [
        ([0, 1, 3, 2], [1, 2], (1.0, 0.5), 2),
        ([0, 3, 3, 2], [4, 4], (0.5, 0.0), 3),
        ([-1, -2, -3, -4], [1, 2], (-0.5, -0.5), -1),
        ([0, 0, 0, 0], [1, 2], (-0.5, -0.5), 0),
        ([-INF, -INF, 1, -INF], [-INF, 1], (1.0, 0.5), 1),
    ],
)
def test_a_keypoint_is_at_the_first_highest_bins_if_its_score_is_above_zero(x, y, keypoint, score):
    keypoints, scores = decode_simcc(np.float32([[x]]), np.float32([[y]]), 2.0)
    assert keypoints.tolist() == [[[*keypoint]]]
    assert scores.tolist() == [[score]]


def test_nobody_decodes_to_nobody():
    keypoints, scores = decode_simcc(*random_outputs(count=0), 2.0)
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
    centers, scales = boxes_to_crops([], (192, 256))
    assert to_frame(keypoints, centers, scales, (192, 256)).shape == (0, 17, 2)


def test_decoding_leaves_its_input_alone():
    simcc = random_outputs()
    for vectors in simcc:
        vectors.flags.writeable = False
    _, scores = decode_simcc(*simcc, 2.0)
    scores[:] = 0


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_peak_that_is_no_number_is_refused(output, value):
    simcc = random_outputs()
    simcc[output][1, 5] = value
    simcc[output][2, 6, 7] = NAN
    with pytest.raises(InputError) as error:
        decode_simcc(*simcc, 2.0)
    name = ("simcc_x", "simcc_y")[output]
    found = f"{name}: expected finite peaks, found {value} for keypoint 5 of person 1 (2 of 51"
    assert str(error.value).startswith(found)
    assert "\n" not in str(error.value)


# Back to the frame


@pytest.mark.parametrize("input_wh", [(192, 256), (288, 384)])
def test_keypoints_in_the_frame_are_those_of_mmpose(mmpose, input_wh):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-500, 2000, (20, 2))
    boxes = np.hstack([corners, corners + rng.uniform(3, 2000, (20, 2))])
    centers, scales = boxes_to_crops(boxes, input_wh)
    keypoints = (rng.integers(-1, 768, (20, 17, 2)) / 2).astype(np.float32)
    ours = to_frame(keypoints, centers, scales, input_wh)

    samples, predictions = [], []
    for center, scale, person in zip(centers, scales, keypoints, strict=True):
        sample = mmpose.PoseDataSample(
            metainfo={"input_center": center, "input_scale": scale, "input_size": input_wh}
        )
        sample.gt_instances = mmpose.InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
        samples.append(sample)
        predictions.append(
            mmpose.InstanceData(keypoints=person[None].copy(), keypoint_scores=np.ones((1, 17)))
        )
    estimator = SimpleNamespace(test_cfg={})
    mmpose.TopdownPoseEstimator.add_pred_to_datasample(estimator, predictions, None, samples)
    theirs = np.concatenate([sample.pred_instances.keypoints for sample in samples])
    assert same_bits(ours, theirs)


@given(st.integers(1, 5))
def test_a_batch_is_its_people_one_by_one(count):
    simcc_x, simcc_y = random_outputs(count, seed=count)
    corners = np.arange(2.0 * count).reshape(count, 2)
    centers, scales = boxes_to_crops(np.hstack([corners, 3 * corners + 5]), (192, 256))
    keypoints, scores = decode_simcc(simcc_x, simcc_y, 2.0)
    in_frame = to_frame(keypoints, centers, scales, (192, 256))
    for n in range(count):
        one = slice(n, n + 1)
        alone, score = decode_simcc(simcc_x[one], simcc_y[one], 2.0)
        assert same_bits(score, scores[one])
        alone = to_frame(alone, centers[one], scales[one], (192, 256))
        assert same_bits(alone, in_frame[one])


# The flip test


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_averaging_is_that_of_mmposes_flip_test(mmpose, keypoints):
    import torch

    flip_indices = keypoints.flip_indices
    simcc = random_outputs(num_keypoints=len(keypoints.names))
    flipped = random_outputs(num_keypoints=len(keypoints.names), seed=1)
    theirs = mmpose.flip_vectors(*map(torch.from_numpy, flipped), list(flip_indices))
    for ours, straight, mirrored in zip(
        average_flipped(simcc, flipped, flip_indices), simcc, theirs, strict=True
    ):
        expected = (torch.from_numpy(straight) + mirrored) * 0.5
        assert same_bits(np.ascontiguousarray(ours), expected.numpy())


def test_a_model_that_mirrors_perfectly_is_not_changed_by_the_flip_test():
    flip_indices = KEYPOINT_SETS["coco"].flip_indices
    x, y = random_outputs()
    mirrored = x[:, flip_indices, ::-1], y[:, flip_indices]
    averaged = average_flipped((x, y), mirrored, flip_indices)
    assert np.array_equal(averaged[0], x)
    assert np.array_equal(averaged[1], y)
