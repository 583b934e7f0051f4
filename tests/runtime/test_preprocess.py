import tracemalloc
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cigpose_runtime import InputError
from cigpose_runtime.estimation.decode import to_frame
from cigpose_runtime.estimation.preprocess import (
    _bands,
    _crop_to_frame,
    boxes_to_crops,
    crop,
    make_input,
)
from tiny_onnx import tiny_contract

ASTRONAUT = cv2.imread(
    str(Path(__file__).parents[2] / "verify/cigpose_verify/cases/photographs/astronaut.jpg")
)
INPUT_SIZES = [(192, 256), (288, 384)]
SMALL = (12, 16)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def gradients(height: int, width: int) -> np.ndarray:
    """In each channel another slope."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 2 * x + 3 * y], axis=-1).astype(np.uint8)


FRAMES = {
    "astronaut": ASTRONAUT,
    "noise": noise(480, 640),
    "noise, full HD": noise(1080, 1920),
    "gradients": gradients(300, 500),
    "one pixel": noise(1, 1),
}


def random_boxes(frame: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Boxes of 3 to 3000 px around the frame: half at any position, half on a grid of pixels."""
    rng = np.random.default_rng(seed)
    height, width, _ = frame.shape
    sizes = 3 * 1000 ** rng.random((count, 2))
    centers = rng.uniform(-0.5, 1.5, (count, 2)) * (width, height)
    boxes = np.hstack([centers - sizes / 2, centers + sizes / 2])
    boxes[::4] = np.round(boxes[::4])
    boxes[1::4] = np.round(boxes[1::4] * 8) / 8
    return boxes.astype(np.float32)


def single(box, input_wh=SMALL, padding=1.25) -> tuple[np.ndarray, np.ndarray]:
    centers, scales = boxes_to_crops([box], input_wh, padding)
    return centers[0], scales[0]


coordinates = st.floats(-3000, 3000, width=32)
sides = st.floats(3, 3000, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
input_sizes = st.sampled_from(INPUT_SIZES)


# As MMPose


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("input_wh", INPUT_SIZES)
def test_crops_are_those_of_mmpose_in_every_pixel(mmpose, name, input_wh):
    frame = FRAMES[name]
    for box in random_boxes(frame, 50, seed=len(name)):
        results = mmpose.GetBBoxCenterScale()({"img": frame, "bbox": box[None]})
        results = mmpose.TopdownAffine(input_wh)(results)
        center, scale = single(box, input_wh)
        assert np.array_equal(center, results["input_center"])
        assert np.array_equal(scale, results["input_scale"])
        assert np.array_equal(crop(frame, center, scale, input_wh), results["img"]), box


# Found among random boxes.
BOX_WITH_SEAM = (93.19, 166.19, 776.55, 513.94)


def test_a_crop_whose_rows_start_in_two_places_is_that_of_mmpose(mmpose):
    frame, input_wh = FRAMES["noise, full HD"], (288, 384)
    center, scale = single(BOX_WITH_SEAM, input_wh)
    (_, x_drift, x_start), _ = _crop_to_frame(center, scale, input_wh)
    assert np.ptp(np.rint(1024 * (x_drift * np.arange(384) + x_start))) == 1
    matrix = mmpose.get_warp_matrix(center, scale, 0.0, input_wh)
    expected = cv2.warpAffine(frame, matrix, input_wh, flags=cv2.INTER_LINEAR)
    assert np.array_equal(crop(frame, center, scale, input_wh), expected)


@given(boxes, input_sizes)
@example((58.046875, 12.3, 98.046875, 345.3), (192, 256))  # its crop begins at x = -center_x
def test_the_map_is_that_of_mmpose(mmpose, box, input_wh):
    center, scale = single(box, input_wh)
    matrix = mmpose.get_warp_matrix(center, scale, 0.0, input_wh)
    assert np.array_equal(
        _crop_to_frame(center, scale, input_wh), cv2.invertAffineTransform(matrix)
    )


@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
def test_input_is_that_of_mmpose(mmpose, color_order):
    import torch

    contract = tiny_contract(input_size_wh=SMALL, color_order=color_order)
    centers, scales = boxes_to_crops([[100, 50, 300, 400], [-40, -60, 200, 90]], SMALL)
    crops = [crop(ASTRONAUT, *person, SMALL) for person in zip(centers, scales, strict=True)]
    preprocessor = mmpose.PoseDataPreprocessor(
        mean=contract.mean, std=contract.std, bgr_to_rgb=color_order == "rgb"
    )
    inputs = [torch.from_numpy(pixels.transpose(2, 0, 1).copy()) for pixels in crops]
    samples = [mmpose.PoseDataSample() for _ in crops]
    expected = preprocessor({"inputs": inputs, "data_samples": samples})["inputs"].numpy()
    batch = make_input(ASTRONAUT, centers, scales, contract)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert np.array_equal(batch, expected)


# The map


@given(boxes, input_sizes, st.floats(0, 1), st.floats(0, 1))
@example((-3000.0, 2999.0, 0.0, 3002.0), (192, 256), 1.0, 1.0)
def test_keypoints_go_back_to_where_the_crop_took_them(box, input_wh, x, y):
    centers, scales = boxes_to_crops([box], input_wh)
    keypoint = np.array([x, y]) * input_wh
    (x_step, _, x_start), (_, y_step, y_start) = _crop_to_frame(centers[0], scales[0], input_wh)
    in_frame = (x_step, y_step) * keypoint + (x_start, y_start)
    ours = to_frame(keypoint[None, None].astype(np.float32), centers, scales, input_wh)
    assert np.abs(ours - in_frame).max() < 1e-3


@given(boxes, input_sizes)
def test_a_crop_holds_the_padded_box_and_has_the_aspect_of_the_input(box, input_wh):
    (x, y), (width, height) = single(box, input_wh)
    left, top, right, bottom = box
    assert np.isclose(width / height, input_wh[0] / input_wh[1])
    assert np.allclose([2 * x, 2 * y], [left + right, top + bottom], atol=1e-3)
    padded = 1.25 * np.array([right - left, bottom - top])
    assert np.allclose(np.min(np.array([width, height]) / padded), 1, rtol=1e-3)


def test_a_box_of_the_size_of_the_input_is_cut_out_as_it_is():
    frame = noise(40, 30)
    center, scale = single((5, 7, 17, 23), padding=1.0)
    assert np.array_equal(crop(frame, center, scale, SMALL), frame[7:23, 5:17])


@given(st.tuples(*[st.integers(-30, 60)] * 2, *[st.integers(3, 90)] * 2), *[st.integers(0, 40)] * 2)
def test_a_shifted_box_in_a_shifted_frame_has_the_same_crop(box, right, down):
    frame = noise(45, 50)
    shifted = np.zeros((45 + down, 50 + right, 3), np.uint8)
    shifted[down:, right:] = frame
    corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    expected = crop(frame, *single(corners, (192, 256)), (192, 256))
    corners += (right, down, right, down)
    assert np.array_equal(crop(shifted, *single(corners, (192, 256)), (192, 256)), expected)


# The edge of the frame


def test_the_frame_fades_to_black_within_a_pixel_of_its_edge():
    white = np.full((16, 12, 3), 255, np.uint8)
    pixels = crop(white, *single((-1.5, -0.5, 10.5, 15.5), padding=1.0), SMALL)
    assert (pixels == pixels[..., :1]).all()
    assert pixels[8, :, 0].tolist() == [0, 128, *[255] * 10]
    assert pixels[:, 8, 0].tolist() == [128, *[255] * 15]
    assert pixels[0, 1, 0] == 64


@pytest.mark.parametrize(
    "box", [(-90, 10, -50, 50), (700, 10, 800, 90), (10, -90, 50, -40), (10, 600, 50, 9e4)]
)
def test_a_box_outside_the_frame_is_black(box):
    assert not crop(ASTRONAUT, *single(box), SMALL).any()


def test_a_frame_of_one_pixel_is_seen_at_its_place():
    pixels = crop(np.full((1, 1, 3), 9, np.uint8), *single((-6, -8, 6, 8), padding=1.0), SMALL)
    assert np.argwhere(pixels.any(axis=2)).tolist() == [[8, 6]]
    assert pixels[8, 6].tolist() == [9, 9, 9]


# Batches, views, memory


@given(st.lists(boxes, max_size=4))
def test_a_batch_is_its_people_one_by_one(people):
    contract = tiny_contract(input_size_wh=SMALL)
    centers, scales = boxes_to_crops(np.reshape(people, (-1, 4)), SMALL)
    batch = make_input(ASTRONAUT, centers, scales, contract)
    assert batch.shape == (len(people), 3, 16, 12)
    for person, box in enumerate(people):
        alone = make_input(ASTRONAUT, *boxes_to_crops([box], SMALL), contract)
        assert np.array_equal(batch[person], alone[0])


@pytest.mark.parametrize("boxes", [[], np.empty((0, 4)), np.empty((0, 4), np.int64)])
def test_no_boxes_are_an_empty_batch(boxes):
    centers, scales = boxes_to_crops(boxes, SMALL)
    assert centers.shape == scales.shape == (0, 2)
    assert centers.dtype == scales.dtype == np.float32
    batch = make_input(ASTRONAUT, centers, scales, tiny_contract(input_size_wh=SMALL))
    assert batch.shape == (0, 3, 16, 12)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float16, np.float64])
def test_boxes_may_be_of_any_number_type(dtype):
    boxes = np.array([[4, 8, 100, 200]], dtype)
    for ours, expected in zip(
        boxes_to_crops(boxes, SMALL), boxes_to_crops(boxes.astype(np.float32), SMALL), strict=True
    ):
        assert ours.dtype == np.float32
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize(
    "view", [np.s_[:, :, ::-1], np.s_[::-1, ::-1], np.s_[3:200:2, 5:300:3]], ids=str
)
def test_a_view_is_as_good_as_a_copy(view):
    frame = ASTRONAUT[view]
    person = single((20, 10, 90, 120))
    assert np.array_equal(crop(frame, *person, SMALL), crop(frame.copy(), *person, SMALL))


def test_a_read_only_frame_is_left_alone():
    frame = noise(50, 50)
    frame.flags.writeable = False
    crop(frame, *single((-5, 5, 40, 60)), SMALL)


def test_bands_follow_one_another():
    frame = np.zeros((2000, 3000, 3), np.uint8)
    bands = [rows for rows, _ in _bands(frame, *single((0, 0, 3000, 2000)), SMALL)]
    assert len(bands) > 1
    assert (bands[0].start, bands[-1].stop) == (0, 16)
    assert all(above.stop == below.start for above, below in pairwise(bands))


@pytest.mark.parametrize("box", [(0, 0, 3000, 3000), (-8e4, -8e4, 9e4, 9e4)])
def test_a_huge_box_takes_little_memory(box):
    frame = np.zeros((3000, 4000, 3), np.uint8)
    person = single(box, (288, 384))
    tracemalloc.start()
    try:
        crop(frame, *person, (288, 384))
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


# Bad input

NAN, INF = float("nan"), float("inf")
GOOD = (0, 0, 10, 20)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([GOOD, (0, NAN, 10, 20)], "boxes[1]: expected finite coordinates"),
        ([(0, 0, INF, 20)], "boxes[0]: expected finite coordinates"),
        ([GOOD, (0, 0, 2e5, 20), (0, -INF, 2, 2)], "and 1 more such boxes"),
        (np.array([[-(2**63), 0, 1, 1]]), "within 100,000 px"),
        ([(5, 5, 5, 20)], "boxes[0]: expected left < right"),
        ([(5, 5, 20, 5)], "boxes[0]: expected left < right"),
        ([GOOD, (10, 0, 0, 20)], "boxes[1]: expected left < right"),
        ([(0, 20, 10, 0)], "[0, 20, 10, 0]"),
        ([(0, 0, 0.001, 5)], "0.01 px"),
        (GOOD, "expected numbers of shape (N, 4), found int64 (4,)"),
        ([(0, 0, 10, 20, 0.9)], "found float64 (1, 5)"),
        ([[GOOD]], "found int64 (1, 1, 4)"),
        (np.empty((0, 5)), "found float64 (0, 5)"),
        ([GOOD, (1, 2)], "expected numbers of shape (N, 4), found object"),
        ([["a", "b", "c", "d"]], "expected numbers"),
        (np.ones((1, 4), complex), "found complex128"),
        (np.ones((1, 4), bool), "found bool"),
        (None, "found object ()"),
    ],
)
def test_bad_boxes_are_refused(boxes, message):
    with pytest.raises(InputError) as error:
        boxes_to_crops(boxes, SMALL)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (ASTRONAUT[..., 0], "found uint8 (512, 512)"),
        (np.zeros((5, 5, 4), np.uint8), "found uint8 (5, 5, 4)"),
        (np.zeros((3, 5, 5), np.uint8), "found uint8 (3, 5, 5)"),
        (np.zeros((1, 5, 5, 3), np.uint8), "found uint8 (1, 5, 5, 3)"),
        (np.zeros((0, 5, 3), np.uint8), "found uint8 (0, 5, 3)"),
        (np.zeros((5, 5, 3), np.uint16), "found uint16 (5, 5, 3)"),
        (np.zeros((5, 5, 3), np.float32), "found float32 (5, 5, 3)"),
        (None, "found NoneType"),
        ([[[0, 0, 0]]], "found list"),
    ],
)
def test_bad_frames_are_refused(frame, found):
    centers, scales = boxes_to_crops([GOOD], SMALL)
    with pytest.raises(InputError) as of_crop:
        crop(frame, centers[0], scales[0], SMALL)
    with pytest.raises(InputError) as of_input:
        make_input(frame, centers, scales, tiny_contract(input_size_wh=SMALL))
    assert found in str(of_crop.value)
    assert str(of_crop.value) == str(of_input.value)
    assert "\n" not in str(of_crop.value)


def test_a_bad_frame_is_refused_without_any_box():
    with pytest.raises(InputError):
        make_input(None, *boxes_to_crops([], SMALL), tiny_contract(input_size_wh=SMALL))


@given(
    st.tuples(*[st.floats(-1e5, 1e5, width=32)] * 2, *[st.floats(0.015625, 2e5, width=32)] * 2),
    input_sizes,
)
@example((1e5 - 0.03125, -1e5, 0.03125, 2e5), (192, 256))
@example((-0.005, 99999.984375, 0.02, 0.015625), (192, 256))
def test_every_accepted_box_has_a_crop(box, input_wh):
    corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    try:
        center, scale = single(corners, input_wh)
    except InputError:
        return
    assert np.isfinite(_crop_to_frame(center, scale, input_wh)).all()
