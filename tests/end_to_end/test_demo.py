"""`make demo` as a newcomer meets it: from the checkpoint in git to a picture and a clip."""

import json

import av
import numpy as np
from PIL import Image

from cigpose_export.drawn.demo import CLIP_FRAMES, SIZE_WH, run_demo
from cigpose_export.project import Project


def test_the_demo_ends_with_a_picture_and_a_clip_of_people_with_skeletons(tmp_path):
    said = []
    shown = run_demo(Project.of_this_clone(), tmp_path, on_stage=lambda *_: None, say=said.append)
    assert [line.split()[:2] for line in said] == [
        ["cigpose-runtime", "image"],
        ["cigpose-runtime", "video"],
    ]
    assert "passed" in shown.page.read_text("utf-8")
    drawn = np.asarray(Image.open(tmp_path / "people.png").convert("RGB")).astype(int)
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
