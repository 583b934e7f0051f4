"""Results as OpenPose's folder and as arrays, from the command line."""

import json

import av
import numpy as np
import pytest
from PIL import Image

from cigpose_runtime import cli
from clips import flash_and_click


@pytest.fixture
def boxes(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([[5, 5, 40, 50], [30, 10, 62, 46]]))
    return path


@pytest.fixture
def run(capfd):
    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_frames_of_a_video_are_openpose_files_with_their_numbers(run, model, boxes, tmp_path):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=3)
    given = ["video", model, clip, "--boxes", boxes, "--openpose", tmp_path / "op"]
    assert run(*given)[:2] == (0, "")
    names = sorted(path.name for path in (tmp_path / "op").iterdir())
    assert names == [f"clip_00000000000{frame}_keypoints.json" for frame in range(3)]
    document = json.loads((tmp_path / "op" / names[2]).read_text())
    assert (document["canvas_width"], document["canvas_height"]) == (64, 48)
    assert [person["person_id"] for person in document["people"]] == [[1], [2]]


def test_pictures_are_openpose_files_with_their_names(run, model, boxes, tmp_path):
    for folder, name in (("a", "x.png"), ("b", "X.png")):  # one name to some file systems
        (tmp_path / folder).mkdir()
        Image.new("RGB", (80, 60)).save(tmp_path / folder / name)
    given = ["image", model, tmp_path / "a", tmp_path / "b", "--boxes", boxes]
    assert run(*given, "--openpose", tmp_path / "op")[0] == 0
    names = sorted(path.name for path in (tmp_path / "op").iterdir())
    assert names == ["X-2_keypoints.json", "x_keypoints.json"]


def test_arrays_are_what_json_lines_are(run, model, boxes, tmp_path):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=4)
    given = ["video", model, clip, "--boxes", boxes]
    assert run(*given, "--json", tmp_path / "a.jsonl", "--npz", tmp_path / "a.npz")[0] == 0
    lines = lines_of(tmp_path / "a.jsonl")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["source"].tolist() == [str(clip)] * 4
        assert arrays["frame"].tolist() == [line["frame"] for line in lines]
        assert arrays["seconds"] == pytest.approx([line["seconds"] for line in lines])
        people = [person for line in lines for person in line["people"]]
        assert arrays["picture"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert arrays["track_ids"].tolist() == [person["track_id"] for person in people]
        places = [person["keypoints"] for person in people]
        np.testing.assert_allclose(arrays["keypoints"], places, atol=6e-4)
        sure = [person["keypoint_scores"] for person in people]
        np.testing.assert_allclose(arrays["scores"], sure, atol=6e-4)
        assert arrays["boxes_xyxy"].tolist() == [person["box_xyxy"] for person in people]
        assert arrays["box_scores"].tolist() == [1] * 8
        assert (len(arrays["names"]), arrays["skeleton"].shape) == (133, (65, 2))


def test_arrays_of_pictures_without_people_say_so(run, model, tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "x.png")
    (tmp_path / "none.json").write_text("[]")
    given = ["image", model, tmp_path / "x.png", "--boxes", tmp_path / "none.json"]
    assert run(*given, "--npz", tmp_path / "a.npz")[:2] == (0, "")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["keypoints"].shape == (0, 133, 2)
        assert np.isnan(arrays["seconds"]).tolist() == [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--npz", "-"], "--npz: expected a file, found stdout"),
        (["--npz", "{model}"], "expected another file for --npz than the model"),
        (["--openpose", "{model}"], "expected a folder to write to"),
    ],
)
def test_places_that_do_not_do_are_refused(run, model, boxes, tmp_path, options, message):
    Image.new("RGB", (80, 60)).save(tmp_path / "x.png")
    given = ["image", model, tmp_path / "x.png", "--boxes", boxes]
    status, _, err = run(*given, *(option.format(model=model) for option in options))
    assert (status, err.count("\n")) == (2, 1)
    assert message in err


def test_smoothed_results_of_a_video_are_others_from_the_second_frame_on(
    run, model, boxes, tmp_path
):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=14)
    given = ["video", model, clip, "--boxes", boxes, "--npz"]
    assert run(*given, tmp_path / "a.npz")[0] == 0
    assert run(*given, tmp_path / "b.npz", "--smooth")[0] == 0
    with np.load(tmp_path / "a.npz") as raw, np.load(tmp_path / "b.npz") as smoothed:
        flash = 2 * 12  # the first person of the frame that differs
        assert (raw["keypoints"][flash] != smoothed["keypoints"][flash]).any()
        assert (raw["keypoints"][:2] == smoothed["keypoints"][:2]).all()
        assert (raw["scores"] == smoothed["scores"]).all()


def test_webcam_records_and_writes_results(run, model, boxes, tmp_path):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=14)
    given = ["webcam", model, "--source", clip, "--serve", "0", "--boxes", boxes]
    saved = ["--save", tmp_path / "seen.mp4", "--draw-ids", "--json", tmp_path / "a.jsonl"]
    assert run(*given, *saved, "--openpose", tmp_path / "op")[:2] == (0, "")
    lines = lines_of(tmp_path / "a.jsonl")
    assert [line["frame"] for line in lines] == list(range(14))
    assert [person["track_id"] for person in lines[-1]["people"]] == [1, 2]
    assert len(list((tmp_path / "op").iterdir())) == 14
    with av.open(str(tmp_path / "seen.mp4")) as container:
        levels = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
        assert not container.streams.audio
    assert (len(levels), int(np.argmax(levels))) == (14, 12)


def test_webcam_does_not_write_over_its_source(run, model, tmp_path):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=3)
    given = ["webcam", model, "--source", clip, "--serve", "0", "--whole-frame"]
    status, _, err = run(*given, "--save", clip)
    assert (status, "expected another file for --save than the source" in err) == (2, True)


def test_numbers_and_names_are_drawn_on_request_only(run, model, boxes, tmp_path):
    clip = flash_and_click(tmp_path / "clip.mp4", sound=None, count=2)

    def drawn(*options):
        given = ["video", model, clip, "--boxes", boxes, "--threshold", "1e6"]
        assert run(*given, "--save", tmp_path / "out.mp4", *options)[0] == 0
        with av.open(str(tmp_path / "out.mp4")) as container:
            return next(container.decode(video=0)).to_ndarray(format="gray").astype(int)

    plain = drawn()
    assert np.abs(drawn("--draw-ids") - plain).max() > 50
    assert np.abs(drawn("--draw-names") - plain).max() < 20  # no keypoint reaches the threshold
