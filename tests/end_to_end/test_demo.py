"""`make demo` as a newcomer meets it: from the checkpoint in git to a picture and a clip.

Then other people's clients on the same model: it was trained, so what they find can be right.
"""

import json

import av
import numpy as np
import pytest
from PIL import Image

from cigpose_export.drawn.demo import CLIP_FRAMES, SCENE_SEED, SIZE_WH, run_demo
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.project import Project
from cigpose_export.release.evidence.clients import (
    CALISCOPE_CARD,
    caliscope_card,
    rtmlib_snippet,
)
from cigpose_runtime import PoseModel, read_contract


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the demo leaves, and what it said."""
    said = []
    out = tmp_path_factory.mktemp("demo")
    shown = run_demo(Project.of_this_clone(), out, on_stage=lambda *_: None, say=said.append)
    return shown, said


@pytest.fixture(scope="module")
def people():
    """The picture of the demo, BGR, and the people drawn on it."""
    scene = draw_scene(SCENE_SEED, size_wh=SIZE_WH)
    return scene.picture, scene.people


def test_the_demo_ends_with_a_picture_and_a_clip_of_people_with_skeletons(demo):
    shown, said = demo
    assert [line.split()[:2] for line in said] == [
        ["cigpose-runtime", "image"],
        ["cigpose-runtime", "video"],
    ]
    assert "passed" in shown.page.read_text("utf-8")
    drawn = np.asarray(Image.open(shown.model.parent / "people.png").convert("RGB")).astype(int)
    annotated = np.asarray(Image.open(shown.picture).convert("RGB")).astype(int)
    assert annotated.shape[1::-1] == SIZE_WH
    assert 0.002 < (np.abs(annotated - drawn).max(-1) > 30).mean() < 0.2
    with av.open(str(shown.clip)) as clip:
        stream = clip.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in clip.decode(stream)) == CLIP_FRAMES
    lines = (shown.clip.parent / "video.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == CLIP_FRAMES
    assert all(len(json.loads(line)["people"]) == 2 for line in lines)


def test_caliscope_finds_the_drawn_people_by_the_card(demo, people, tmp_path):
    pytest.importorskip("caliscope", reason="caliscope 0.11.8 is for Python 3.10 to 3.13")
    from caliscope.trackers import tracker_registry

    model, (frame, drawn) = demo[0].model, people
    (tmp_path / model.name).symlink_to(model)
    card = caliscope_card(read_contract(model), model.stem)
    (tmp_path / f"{model.stem}{CALISCOPE_CARD}").write_text(card, "utf-8")
    tracker_registry.clear()
    tracker_registry.scan_onnx_models(tmp_path)
    (key,) = tracker_registry.available_names()
    assert tracker_registry.is_model_ready(key)
    distances = []
    for person in drawn:
        left, top, right, bottom = (int(side) for side in person.box_xyxy)
        tracker = tracker_registry.create(key)  # a new one: it follows one person
        found = tracker.get_points(frame[max(top, 0) : bottom, max(left, 0) : right])
        assert [tracker.get_point_name(k) for k in (0, 16)] == ["nose", "right_ankle"]
        in_frame = found.img_loc + np.array([max(left, 0), max(top, 0)])
        away = np.linalg.norm(in_frame - person.keypoints[found.keypoint_id], axis=1)
        distances += [*away / np.hypot(right - left, bottom - top)]
        assert len(tracker.wireframe.segments) == len(read_contract(model).skeleton)
    # Measured: 49 of 51 keypoints, 1.8 % of the box's diagonal off at the median, 9.1 % at most.
    assert len(distances) > 45
    assert np.median(distances) < 0.03


def test_rtmlibs_snippet_finds_what_the_runtime_finds(demo, people, tmp_path, monkeypatch):
    model, (frame, _) = demo[0].model, people
    (tmp_path / model.name).symlink_to(model)
    Image.fromarray(frame[..., ::-1]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    snippet = rtmlib_snippet(read_contract(model), model.stem)
    names = {}
    exec(snippet.replace("photo.jpg", "photo.png"), names)
    height, width = frame.shape[:2]
    expected = PoseModel(model)(frame, np.array([[0.0, 0.0, width, height]]))
    # Measured: 0, and 6e-5 in boxes around people. With BGR the median is 16 pixels.
    np.testing.assert_allclose(names["keypoints"], expected.keypoints, rtol=0, atol=1e-3)
