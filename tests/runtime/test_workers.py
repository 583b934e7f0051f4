"""Models, detectors and results in other threads and processes."""

import copy
import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest

from cigpose_runtime import (
    FileError,
    FixedBoxesDetector,
    InputError,
    PoseModel,
    PosePipeline,
    Smoother,
    Tracker,
    WholeFrameDetector,
    YoloxDetector,
    read_onnx_file,
)
from people import people
from tiny_onnx import tiny_model
from tiny_yolox import yolox
from workers import KeypointsOfFrame, send_estimate

BOXES = [[5, 5, 60, 90], [30, 10, 95, 80]]
FRAMES = [np.random.default_rng(n).integers(0, 255, (100, 120, 3), np.uint8) for n in range(8)]


@pytest.fixture
def path(tmp_path):
    onnx.save(tiny_model(input_size_wh=(96, 128), seed=3), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def detector(tmp_path):
    onnx.save(yolox([(40, 30, 30, 50, 0.9, 0), (80, 30, 30, 50, 0.6, 0)]), tmp_path / "yolox.onnx")
    return YoloxDetector(tmp_path / "yolox.onnx", nms_threshold=0.3)


def again(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("options", [{}, {"flip": True, "max_batch": 4, "threads": 1}])
def test_a_pickled_model_opens_its_file_again_with_its_options(path, monkeypatch, options):
    monkeypatch.chdir(path.parent)
    model = PoseModel("model.onnx", **options)
    monkeypatch.chdir("/")
    there = again(model)
    assert (there.flip, there.crops_at_once) == (model.flip, model.crops_at_once)
    found, expected = there(FRAMES[0], BOXES), model(FRAMES[0], BOXES)
    assert (found.keypoints == expected.keypoints).all()
    assert (found.scores == expected.scores).all()


def test_a_pickled_model_keeps_the_contract_that_was_given(path):
    contract = replace(PoseModel(path).contract, box_padding=1.5)
    assert again(PoseModel(path, override=contract)).contract == contract


def test_a_pickled_model_whose_file_is_gone_says_so(path):
    pickled = pickle.dumps(PoseModel(path))
    path.unlink()
    with pytest.raises(FileError, match=r"model\.onnx"):
        pickle.loads(pickled)


def test_a_pickled_detector_keeps_thresholds_that_were_set_later(detector):
    detector.score_threshold = 0.7
    there = again(detector)
    assert (there.score_threshold, there.nms_threshold) == (0.7, 0.3)
    found = there(FRAMES[0])
    assert (len(found), found.boxes_xyxy.tolist()) == (1, detector(FRAMES[0]).boxes_xyxy.tolist())


def test_a_pickled_pipeline_goes_on_where_it_was(path, detector):
    pipeline = PosePipeline(detector, PoseModel(path), Tracker(), detect_every=2)
    pipeline(FRAMES[0])
    there = again(pipeline)
    for frame in FRAMES[1:4]:
        found, expected = there(frame), pipeline(frame)
        assert found.track_ids.tolist() == expected.track_ids.tolist()
        assert (found.keypoints == expected.keypoints).all()


def test_pickled_poses_are_read_only_as_all_are():
    poses = again(people(2, track_ids=np.array([4, 7])))
    assert poses.track_ids.tolist() == [4, 7]
    with pytest.raises(ValueError, match="read-only"):
        poses.keypoints[0] = 0


@pytest.mark.parametrize(
    "thing",
    [
        Tracker(),
        Smoother(),
        WholeFrameDetector(),
        FixedBoxesDetector(BOXES),
        InputError("a"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_all_else_pickles_and_copies(thing):
    assert type(again(thing)) is type(copy.deepcopy(thing)) is type(thing)


def test_what_a_file_says_of_itself_pickles(path):
    for said in (PoseModel(path).contract, PoseModel(path).keypoint_set, read_onnx_file(path)):
        assert again(said) == said


def test_threads_share_a_model(path):
    model = PoseModel(path)
    expected = [model(frame, BOXES).keypoints for frame in FRAMES]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda frame: model(frame, BOXES).keypoints, FRAMES * 5))
    assert all((a == b).all() for a, b in zip(found, expected * 5, strict=True))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_gets_a_model_whichever_way_it_is_started(path, method):
    model = PoseModel(path, threads=2)
    expected = model(FRAMES[0], BOXES).keypoints
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=send_estimate, args=(there, model, FRAMES[0], BOXES))
    process.start()
    try:
        assert here.poll(60)
        assert (here.recv() == expected).all()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not everywhere")
def test_a_worker_of_a_data_loader_estimates(path, method):
    data = pytest.importorskip("torch.utils.data")
    model = PoseModel(path)
    loader = data.DataLoader(
        FRAMES,
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=KeypointsOfFrame(model, BOXES),
    )
    for found, frame in zip(loader, FRAMES, strict=True):
        assert (found == model(frame, BOXES).keypoints).all()
