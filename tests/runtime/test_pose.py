"""The model: batches, caps, mirror images, and what it refuses."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from onnx import helper, numpy_helper

from cigpose_runtime import InputError, MetadataError, OnnxFileError, PoseModel, ProviderError
from cigpose_runtime.estimation.decode import average_flipped, decode_simcc
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from tiny_onnx import tiny_contract, tiny_model

BOXES = np.array(
    [[10, 20, 60, 120], [-30, 40, 50, 150], [100, 10, 190, 90], [40, 80, 41, 82], [0, 0, 200, 160]],
    np.float32,
)

PUBLISHED = json.dumps(
    {
        "input_w": 6,
        "input_h": 8,
        "split_ratio": 2.0,
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
    }
)
"""What the published models say of themselves."""


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (16, 20, 3), np.uint8), (200, 160))


@pytest.fixture
def save(tmp_path):
    """Writes a tiny model with these settings; returns its path."""

    def write(**settings):
        path = tmp_path / "tiny.onnx"
        path.write_bytes(tiny_model(**settings).SerializeToString())
        return path

    return write


def watched(model):
    """The sizes of the batches that reach onnxruntime."""
    sizes, session = [], model._session

    class Watch:
        def run(self, names, feed):
            sizes.append(len(feed["input"]))
            return session.run(names, feed)

    model._session = Watch()
    return sizes


def test_poses_are_the_models_answer_mapped_into_the_frame(save, frame):
    path = save(num_keypoints=133)
    poses = PoseModel(path)(frame, BOXES, box_scores=[0.9, 0.8, 0.7, 0.6, 0.5])
    assert poses.keypoints.shape == (5, 133, 2)
    assert poses.box_scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    contract = tiny_contract(num_keypoints=133)
    centers, scales = boxes_to_crops(BOXES, (6, 8))
    from cigpose_runtime.estimation.ort import ort

    crops = make_input(frame, centers, scales, contract)
    simcc = ort.InferenceSession(path).run(["simcc_x", "simcc_y"], {"input": crops})
    in_crop, scores = decode_simcc(*simcc, 2.0)
    assert np.array_equal(poses.scores, scores)
    corner = centers - scales / 2
    expected = corner[:, None] + in_crop * (scales / (6, 8))[:, None]
    np.testing.assert_allclose(poses.keypoints, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_is_the_same_as_one_person_after_the_other(save, frame, flip):
    model = PoseModel(save(), flip=flip)
    together = model(frame, BOXES)
    for index, box in enumerate(BOXES):
        alone = model(frame, [box])
        np.testing.assert_allclose(alone.scores[0], together.scores[index], atol=1e-4)
        assert np.array_equal(alone.keypoints[0], together.keypoints[index])


@pytest.mark.parametrize(
    ("max_batch", "flip", "batches"),
    [(16, False, [5]), (2, False, [2, 2, 1]), (1, False, [1] * 5), (4, True, [4, 4, 2])],
)
def test_the_cap_bounds_what_runs_at_once(save, frame, max_batch, flip, batches):
    model = PoseModel(save(), max_batch=max_batch, flip=flip)
    sizes = watched(model)
    model(frame, BOXES)
    assert sizes == batches


def test_200_people_in_one_frame_stay_within_the_cap(save, frame):
    model = PoseModel(save())
    sizes = watched(model)
    assert len(model(frame, np.repeat(BOXES, 40, axis=0))) == 200
    assert max(sizes) <= 16


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_model_of_one_batch_size_is_filled_up(save, frame, batch, flip):
    free = PoseModel(save(), flip=flip)(frame, BOXES)
    model = PoseModel(save(batch=batch, metadata=PUBLISHED), flip=flip)
    sizes = watched(model)
    fixed = model(frame, BOXES)
    assert set(sizes) == {batch}
    assert np.array_equal(fixed.keypoints, free.keypoints)


def test_the_flip_test_averages_with_the_mirror_image(save, frame):
    path = save()
    model = PoseModel(path, flip=True)
    crops = make_input(frame, *boxes_to_crops(BOXES, (6, 8)), model.contract)
    from cigpose_runtime.estimation.ort import ort

    session = ort.InferenceSession(path)
    both = [session.run(["simcc_x", "simcc_y"], {"input": i}) for i in (crops, crops[..., ::-1])]
    expected = average_flipped(*both, model.keypoint_set.flip_indices)
    _, scores = decode_simcc(*expected, 2.0)
    np.testing.assert_allclose(model(frame, BOXES).scores, scores, atol=1e-5)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4))])
def test_no_boxes_are_nobody(save, frame, boxes):
    poses = PoseModel(save())(frame, boxes)
    assert (len(poses), poses.keypoints.shape) == (0, (0, 17, 2))


@pytest.mark.parametrize(
    "box", [[-50, 10, 0, 60], [10, -50, 60, 0], [200, 10, 260, 60], [10, 160, 60, 190]]
)
def test_a_box_wholly_outside_the_frame_is_refused(save, frame, box):
    with pytest.raises(InputError, match=r"boxes\[1\]: expected a box that overlaps"):
        PoseModel(save())(frame, [BOXES[0], box])


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), None, np.zeros((0, 4, 3), np.uint8)]
)
def test_another_frame_is_refused(save, bad):
    with pytest.raises(InputError, match="frame: expected"):
        PoseModel(save())(bad, BOXES)


def test_settings_that_cannot_be_met_are_refused(save):
    path = save()
    with pytest.raises(ProviderError, match="NoSuchProvider"):
        PoseModel(path, providers=["NoSuchProvider"])
    with pytest.raises(InputError, match="at least 1"):
        PoseModel(path, max_batch=0)
    with pytest.raises(InputError, match="at least 2"):
        PoseModel(path, max_batch=1, flip=True)


def test_a_file_without_metadata_names_the_override_and_takes_it(save, frame):
    path = save(metadata="")
    with pytest.raises(MetadataError, match="override="):
        PoseModel(path)
    assert len(PoseModel(path, override=tiny_contract())(frame, BOXES)) == 5


ALONE = """
import sys
known = {"numpy", "onnxruntime", "cigpose_runtime", *sys.stdlib_module_names}
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Guard())
import cigpose_runtime
assert "onnxruntime" not in sys.modules
import numpy as np
poses = cigpose_runtime.PoseModel(sys.argv[1])(np.zeros((40, 30, 3), np.uint8), [[1, 2, 20, 30]])
print(poses.keypoints.shape)
"""


def test_nothing_but_numpy_and_onnxruntime_is_imported(save):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(save())], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(1, 17, 2)"), done.stderr


def test_an_output_of_another_shape_than_the_contract_says_is_one_error(tmp_path, frame):
    """The file says what the contract says; only its graph knows that a row is left out."""
    model = tiny_model()
    model.graph.node[-1].output[0] = "all"
    for name, value in (("ends", 16), ("start", 0), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    ends = helper.make_node("Add", ["ends", "start"], ["end"])
    cut = helper.make_node("Slice", ["all", "start", "end", "axis"], ["simcc_y"])
    model.graph.node.extend([ends, cut])
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=r"simcc_y: expected float32 \(1, 17, 16\), found .*16"):
        PoseModel(path)(frame, BOXES[:1])


def test_a_model_that_stops_when_it_runs_is_one_error(tmp_path, frame):
    model = tiny_model()
    model.graph.initializer[1].raw_data = np.array([0, 17, 11]).tobytes()  # what is reshaped has 12
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match="expected the model to run") as error:
        PoseModel(path)(frame, BOXES[:1])
    assert "\n" not in str(error.value)


def test_what_onnxruntime_refuses_is_one_error_and_nothing_is_printed(tmp_path, capfd):
    """Its message has a name that is not UTF-8; its own fallback would print that to stdout."""
    model = tiny_model()
    model.graph.node[1].name = model.graph.node[2].name = "NAME"  # they have to differ
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString().replace(b"NAME", b"\xff\xfe\xff\xfe"))
    with pytest.raises(OnnxFileError, match="found one that it refuses"):
        PoseModel(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("batch", [-1, 0, 10**9])
def test_a_fixed_batch_that_takes_no_crop_or_all_memory_is_refused(tmp_path, batch):
    model = tiny_model(metadata=PUBLISHED)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=f"expected a free batch, or one of 1 .*found {batch}"):
        PoseModel(path)
