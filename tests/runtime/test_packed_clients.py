"""Clients of packed files that have nothing of ours: plain onnxruntime, Node, and C++."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_runtime import PoseModel, YoloxDetector
from cigpose_runtime.estimation.ort import ort
from packing import save
from tiny_yolox import yolox

CLONE = Path(__file__).resolve().parents[2]
EXAMPLES = CLONE / "runtime" / "examples"
NPM = "npm install --ignore-scripts --no-save --prefix runtime/examples"
BOX = (20, 10, 400, 505)  # that of docs/one-file.md


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model.onnx, yolox.onnx, both packed, and one picture as photo.jpg and photo.ppm."""
    folder = tmp_path_factory.mktemp("clients")
    save(folder, input_size_wh=(192, 256)).rename(folder / "model.onnx")
    people = [(40, 30, 30, 50, 0.9, 0), (90, 30, 20, 40, 0.6, 0)]
    onnx.save(yolox(people, decoded=True), folder / "yolox.onnx")
    pack_file(folder / "model.onnx", folder / "cigpose-m_coco_256x192_frame.onnx")
    detector = DetectorOptions(folder / "yolox.onnx")
    pack_file(folder / "model.onnx", folder / "det.onnx", detector=detector)
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    Image.fromarray(pixels).resize((500, 370)).save(folder / "photo.jpg", quality=90)
    Image.open(folder / "photo.jpg").save(folder / "photo.ppm")
    return folder


def frame_of(folder):
    """The picture in BGR."""
    rgb = np.asarray(Image.open(folder / "photo.jpg").convert("RGB"))
    return np.ascontiguousarray(rgb[..., ::-1])


def test_the_snippet_in_the_docs_prints_the_runtimes_keypoints(folder, monkeypatch, capsys):
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (CLONE / "docs/one-file.md").read_text("utf-8"), re.M | re.S
    )
    monkeypatch.chdir(folder)
    exec(compile(code, "docs/one-file.md", "exec"), {})
    poses = PoseModel(folder / "model.onnx")(frame_of(folder), [BOX])
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {x:.1f}, {y:.1f} ({score:.2f})"
        for name, (x, y), score in zip(
            poses.names, poses.keypoints[0], poses.scores[0], strict=True
        )
    ]


def node_example(_folder):
    """The command that runs estimate.mjs."""
    command = shutil.which("node")
    if command is None:
        pytest.skip("no Node is installed")
    if not (EXAMPLES / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("no onnxruntime-node: npm ci --ignore-scripts --prefix runtime/examples")
    return [command, EXAMPLES / "estimate.mjs"]


# Wheels have the shared library without headers; Microsoft's are in this package's part for iOS.
HEADERS_PACKAGE = "com.github.asus4.onnxruntime"
HEADERS = "Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"


def cpp_example(folder):
    """The command that runs estimate.cpp, compiled for the wheel's shared library."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ is installed")
    headers = EXAMPLES / "node_modules" / HEADERS_PACKAGE / HEADERS
    if not headers.is_dir():
        pytest.skip(f"no headers of onnxruntime: {NPM} {HEADERS_PACKAGE}@0.4.9")
    (library,) = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*")
    linked = folder / "libonnxruntime.so.1"  # its SONAME, which the wheel does without
    linked.symlink_to(library)
    program = folder / "estimate"
    source = EXAMPLES / "estimate.cpp"
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-isystem", headers, source, linked]
    subprocess.run([*command, "-o", program, f"-Wl,-rpath,{folder}"], check=True)
    return [program]


@pytest.fixture(scope="module", params=[node_example, cpp_example])
def client(request, tmp_path_factory):
    """Runs an example with arguments; returns what it prints."""
    command = request.param(tmp_path_factory.mktemp("program"))

    def run(folder, *arguments):
        return subprocess.run(
            [*command, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_an_example_prints_the_runtimes_poses(client, folder):
    boxes = [BOX, (100.5, -20, 300, 200.25)]
    given = [",".join(map(str, box)) for box in boxes]
    ended = client(folder, "cigpose-m_coco_256x192_frame.onnx", "photo.ppm", *given)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    expected = PoseModel(folder / "model.onnx")(frame_of(folder), boxes)
    np.testing.assert_allclose(found["keypoints"], expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-5)


def test_an_example_lets_a_packed_detector_find_the_people(client, folder):
    ended = client(folder, "det.onnx", "photo.ppm")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    expected = YoloxDetector(folder / "yolox.onnx")(frame_of(folder))
    np.testing.assert_allclose(found["boxes"], expected.boxes_xyxy, atol=1e-3)
    poses = PoseModel(folder / "model.onnx")(frame_of(folder), expected.boxes_xyxy)
    np.testing.assert_allclose(found["keypoints"], poses.keypoints, atol=1e-3)


def test_an_example_says_what_is_wrong_with_a_picture(client, folder):
    ended = client(folder, "det.onnx", "photo.jpg")
    assert ended.returncode != 0
    assert "expected a binary PPM of 8 bits" in ended.stderr


def test_an_example_is_under_80_lines():
    lines = {p.name: len(p.read_text().splitlines()) for p in EXAMPLES.glob("estimate.*")}
    assert len(lines) == 2
    assert max(lines.values()) < 80
