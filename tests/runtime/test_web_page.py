"""The web page in a headless Chromium: what it finds is what the runtime finds."""

import hashlib
import json
import shutil
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from chromium import chromium
from cigpose_export.graph.derived_file import derive_file
from cigpose_export.graph.frame.pack import DetectorOptions, pack_file
from cigpose_runtime import (
    METADATA_KEY,
    DerivedFrom,
    PoseModel,
    Poses,
    YoloxDetector,
    read_contract,
)
from cigpose_runtime.draw import draw_poses
from cigpose_runtime.estimation.preprocess import boxes_to_crops, make_input
from cigpose_runtime.media.video import VideoReader
from cigpose_runtime.web.engine import engine_files
from cigpose_runtime.web.folder import read_folder
from cigpose_runtime.web.server import page_files, write_site
from clips import flash_and_click
from packed_campaign import boxes_around
from packing import pixel_model, save
from tiny_yolox import yolox
from web_page import ENGINE, Web, any_server, needs_the_page, served

CAMERA = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
TOLERANCE_PX = 1e-3
"""The page's arithmetic is the runtime's, and results have three decimals."""

PRECISIONS = "fp16", "w16"

pytestmark = needs_the_page

METADATA = "document.getElementById('metadata').textContent"

SIZE_WH = 120, 90
BOXES = [[10.5, 5.25, 60, 80], [50, -4, 130, 95.5]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, packed and not, with a detector and without, in every precision; a picture and a
    clip."""
    folder = tmp_path_factory.mktemp("folder")
    plain = save(folder, input_size_wh=(48, 64)).rename(folder / "plain.onnx")
    pack_file(plain, folder / "small_frame.onnx")
    pack_file(plain, folder / "bgr_frame.onnx", color_order="bgr")
    for precision in PRECISIONS:
        reduced = folder / f"plain_{precision}.onnx"
        derive_file(plain, precision, reduced, on_stage=lambda _: None)
        pack_file(reduced)
    people = [(40, 30, 30, 50, 0.9, 0), (90, 30, 20, 40, 0.6, 0)]
    onnx.save(yolox(people, decoded=True), folder.parent / "yolox.onnx")
    detector = DetectorOptions(folder.parent / "yolox.onnx")
    pack_file(plain, folder / "small_frame_det.onnx", detector=detector)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).resize(SIZE_WH).save(folder / "people.png")
    flash_and_click(folder / "clip.mp4", sound=None)
    (folder / "boxes.json").write_text(json.dumps({"people.png": BOXES}))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile"), *CAMERA) as page:
        yield page


@pytest.fixture(scope="module")
def url(folder):
    with served(folder) as url:
        yield url


@pytest.fixture
def web(browser, url, tmp_path):
    """The page with the folder; after the test: no complaint, and no request elsewhere."""
    page = Web(browser, url, tmp_path)
    yield page
    assert page.complaints() == ([], [])


def frame_of(folder):
    """The picture in BGR."""
    rgb = np.asarray(Image.open(folder / "people.png").convert("RGB"))
    return np.ascontiguousarray(rgb[..., ::-1])


def assert_are(people, poses):
    """What the page saved is what the runtime found."""
    keypoints = [person["keypoints"] for person in people]
    np.testing.assert_allclose(keypoints, poses.keypoints, atol=TOLERANCE_PX)
    scores = [person["keypoint_scores"] for person in people]
    np.testing.assert_allclose(scores, poses.scores, atol=1e-3)
    boxes = [person["box_xyxy"] for person in people]
    np.testing.assert_allclose(boxes, poses.boxes_xyxy, atol=1e-3)


def test_one_click_shows_the_demo_with_the_runtimes_keypoints(web, folder):
    assert web.do("self.crossOriginIsolated")
    web.click("demo")
    web.wait_for_people(2)
    (line,) = web.results()
    assert (line["schema_version"], line["source"]) == (1, "people.png")
    assert_are(line["people"], PoseModel(folder / "plain.onnx")(frame_of(folder), BOXES))


def test_other_forms_of_a_model_find_the_same(web, folder):
    web.choose("media", "people.png")
    expected = PoseModel(folder / "plain.onnx")(frame_of(folder), BOXES)
    for name in ("plain.onnx", "bgr_frame.onnx"):
        web.choose("models", name)
        web.wait_for_status(f"{name} runs on the CPU")
        web.wait_for_people(2)
        (line,) = web.results()
        assert_are(line["people"], expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_reduced_precision_finds_what_the_runtime_finds_and_is_shown(web, folder, precision):
    web.choose("media", "people.png")
    expected = PoseModel(folder / f"plain_{precision}.onnx")(frame_of(folder), BOXES)
    for name in (f"plain_{precision}.onnx", f"plain_{precision}_frame.onnx"):
        web.choose("models", name)
        web.wait_for_status(f"{name} runs on the CPU")
        web.wait_for_people(2)
        (line,) = web.results()
        assert_are(line["people"], expected)
        assert f"precision{precision}" in web.do(METADATA)


def test_a_packed_detector_finds_the_people(web, folder):
    web.choose("media", "people.png")
    web.choose("models", "small_frame_det.onnx")
    web.wait_for_people(2)
    (line,) = web.results()
    found = YoloxDetector(folder.parent / "yolox.onnx")(frame_of(folder))
    poses = PoseModel(folder / "plain.onnx")(frame_of(folder), found.boxes_xyxy)
    assert_are(line["people"], poses)
    scores = [person["box_score"] for person in line["people"]]
    np.testing.assert_allclose(scores, found.scores, atol=1e-3)


def test_boxes_are_drawn_and_set_with_keys(web, folder):
    web.choose("models", "small_frame.onnx")
    web.choose("media", "people.png")
    web.wait_for_people(2)
    web.click("clear")
    web.wait_for_people(0)
    shown = web.do("document.getElementById('view').getBoundingClientRect().toJSON()")
    scale = shown["width"] / SIZE_WH[0]
    drawn = [30, 15, 75, 60]
    for kind, (x, y) in [
        ("mousePressed", drawn[2:]),
        ("mouseMoved", (40, 40)),
        ("mouseReleased", drawn[:2]),
    ]:
        place = {"x": shown["x"] + x * scale, "y": shown["y"] + y * scale}
        pressed = {"button": "left", "buttons": 1, "clickCount": 1}
        web.browser.call("Input.dispatchMouseEvent", type=kind, **place, **pressed)
    web.wait_for_people(1)
    (line,) = web.results()
    np.testing.assert_allclose(line["people"][0]["box_xyxy"], drawn, atol=1)
    web.do("document.getElementById('view').focus()")
    for key, count in [("Enter", 2), ("ArrowLeft", 2), ("Delete", 1), ("Delete", 0)]:
        web.browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        web.wait_for_people(count)


def test_a_clips_frames_are_those_of_the_runtime(web, folder):
    web.choose("models", "plain.onnx")
    web.choose("media", "clip.mp4")
    web.wait_for_people(1)
    assert web.browser.wait_until("document.getElementById('rate').textContent.endsWith('/s')")
    lines = web.results()
    with VideoReader(folder / "clip.mp4") as video:
        sizes = {frame.pixels.shape[1::-1] for frame in video}
    ((width, height),) = sizes
    assert {tuple(line["people"][0]["box_xyxy"]) for line in lines} == {(0, 0, width, height)}
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert all(line["seconds"] >= 0 for line in lines)


def test_the_camera_is_looked_at(web):
    web.choose("models", "small_frame.onnx")
    web.wait_for_status("runs on the CPU")
    web.click("camera")
    web.wait_for_people(1)
    assert web.results()[0]["source"] == "camera"


def test_the_threshold_hides_keypoints_and_the_metadata_are_shown(web):
    web.click("demo")
    web.wait_for_people(2)
    ink = "document.getElementById('view').toDataURL()"
    before = web.do(ink)
    web.do("""(() => {
        const slider = document.getElementById('threshold');
        slider.value = 1;
        slider.dispatchEvent(new Event('input'));
    })()""")
    assert web.do("document.getElementById('threshold-shown').textContent") == "1.00"
    assert web.do(ink) != before
    assert "model · keypoint_names" in web.do(METADATA)
    assert "model · precisionfp32" in web.do(METADATA)


def test_a_keypoint_is_a_dot_with_a_dark_edge_as_the_runtime_draws_it(web, folder):
    contract = read_contract(folder / "plain.onnx")
    blank = np.zeros((60, 60, 3), np.uint8)
    box = [0.0, 0.0, 600.0, 600.0]
    keypoints = np.full((1, contract.num_keypoints, 2), 30, np.float32)
    scores = np.eye(1, contract.num_keypoints, dtype=np.float32)  # the nose alone: no lines
    poses = Poses(
        keypoints=keypoints,
        scores=scores,
        boxes_xyxy=np.array([box], np.float32),
        keypoint_set=contract.keypoints,
    )
    made = web.do(f"""(async () => {{
        const {{ drawPerson }} = await import('{web.url}draw.mjs');
        const context = new OffscreenCanvas(60, 60).getContext('2d');
        context.fillRect(0, 0, 60, 60);
        drawPerson(context, {{ box: {box}, keypoints: {keypoints[0].tolist()},
            scores: {scores[0].tolist()} }}, {contract.to_json()}, 0.5);
        return [...context.getImageData(0, 0, 60, 60).data];
    }})()""")
    rgb = np.reshape(made, (60, 60, 4))[..., :3]
    expected = draw_poses(blank, poses)[..., ::-1]
    is_dot = expected[..., 1] > 200
    assert is_dot.sum() > 50
    # Measured: 4 of 89, where edges are smoothed otherwise; half a pixel away, 13.
    assert ((rgb[..., 1] > 200) ^ is_dot).sum() <= 6


def test_on_a_phone_the_page_fits_and_an_error_comes_into_view(web):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    web.browser.call("Emulation.setDeviceMetricsOverride", **phone)
    web.click("demo")
    web.wait_for_people(2)
    assert web.do("document.documentElement.scrollWidth") == phone["width"]
    web.do("scrollTo(0, document.documentElement.scrollHeight)")
    web.choose("device", "WebGPU")
    web.wait_for_status("expected WebGPU, found none")
    shown = web.do("document.getElementById('status').getBoundingClientRect().toJSON()")
    assert 0 <= shown["top"] < shown["bottom"] <= phone["height"]


def refused_by_the_engine():
    model, _ = pixel_model(input_size_wh=(48, 64))
    model.graph.node[0].input[0] = "nowhere"
    return model.SerializeToString()


def of_a_newer_schema():
    model, contract = pixel_model(input_size_wh=(48, 64))
    metadata = contract.to_json().replace('"schema_version":1', '"schema_version":3')
    helper.set_model_props(model, {METADATA_KEY: metadata})
    return model.SerializeToString()


def for_three_people():
    model, contract = pixel_model(input_size_wh=(48, 64))
    derived = DerivedFrom("ab" * 32, "cigpose-toolchain", "0.1.0", (), batch=3)
    contract = replace(contract, schema_version=2, derived_from=derived)
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()


NO_MODELS = [
    (b"", "found an empty file"),
    (b"\x08\x08broken", "found damaged or foreign content"),
    (b"<!doctype html>", "found an HTML or XML page"),
    (of_a_newer_schema(), "expected cigpose_meta of schema version 2 at most, found 3"),
    (for_three_people(), "expected a model for any number of people, found one for 3 at a time"),
    (yolox([(40, 30, 30, 50, 0.9, 0)]).SerializeToString(), "without its metadata"),
    (refused_by_the_engine(), "expected a model that onnxruntime-web runs, found: "),
]


def test_files_that_are_no_models_are_one_line_each_and_the_page_goes_on(web, tmp_path):
    for content, said in NO_MODELS:
        (tmp_path / "bad.onnx").write_bytes(content)
        web.browser.choose_files("model-file", tmp_path / "bad.onnx")
        web.wait_for_status(said)
        assert web.do("document.getElementById('status').className") == "error"
    web.click("demo")
    web.wait_for_people(2)


def test_a_picture_that_is_none_is_one_line(web, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    web.browser.choose_files("source-file", tmp_path / "bad.png")
    web.wait_for_status("bad.png: expected a picture that this browser shows")


def test_a_release_is_opened_by_its_manifest(web, folder, tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    data = shutil.copy(folder / "plain.onnx", release / "good.onnx").read_bytes()
    (release / "bad.onnx").write_bytes(data + b"\0")
    files = [
        {"path": f"{name}.onnx", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name in ("good", "bad")
    ]
    models = {name: f"{name}.onnx" for name in ("good", "bad")}
    manifest = json.dumps({"schema_version": 1, "files": files, "models": models})
    (release / "manifest.json").write_text(manifest)
    web.browser.choose_files("release-folder", release)
    web.wait_for_status("The release is open")
    web.choose("models", "bad.onnx")
    web.wait_for_status("bad.onnx: expected the file that was listed, found other bytes")
    web.choose("models", "good.onnx")
    web.wait_for_status("good.onnx runs on the CPU")


@pytest.mark.parametrize("megabytes", [24, pytest.param(240, marks=pytest.mark.long)])
def test_a_large_model_shows_its_progress_and_is_kept(browser, tmp_path, megabytes):
    folder = tmp_path / "large"
    folder.mkdir()
    model, _ = pixel_model(input_size_wh=(48, 64))
    weights = np.zeros(megabytes * 250_000, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "unused"))
    onnx.save(model, folder / "large.onnx")
    with served(folder) as url:
        page = Web(browser, url, tmp_path)
        page.do("""(() => {
            window.seen = [];
            const status = document.getElementById('status');
            const note = () => window.seen.push(status.textContent);
            new MutationObserver(note).observe(status, { childList: true });
        })()""")
        page.choose("models", "large.onnx")
        page.wait_for_status("runs on the CPU")
        progress = [text for text in page.do("window.seen") if text.startswith("Downloading: ")]
        assert len(progress) > 3
        size = (folder / "large.onnx").stat().st_size / 1e6
        assert progress[-1] == f"Downloading: {size:.1f} of {size:.1f} MB"
        assert f"{url}folder/large.onnx" in browser.requests
    with served(folder, urlsplit(url).port) as url:  # the command again: another secret path
        page = Web(browser, url, tmp_path)
        page.choose("models", "large.onnx")
        page.wait_for_status("runs on the CPU")
        assert f"{url}folder/large.onnx" not in browser.requests
        assert page.complaints() == ([], [])


def test_a_written_site_runs_from_any_server(browser, folder, tmp_path):
    site = tmp_path / "site"
    write_site(page_files(engine_files(ENGINE), read_folder(folder)), site)
    with any_server(site) as url:
        page = Web(browser, url, tmp_path)
        assert not page.do("self.crossOriginIsolated")
        page.click("demo")
        page.wait_for_people(2)
        assert page.complaints() == ([], [])


def test_a_clip_and_a_model_are_dropped_at_once(web):
    web.do("""(async () => {
        const dropped = new DataTransfer();
        for (const [name, type] of [['clip.mp4', 'video/mp4'], ['small_frame.onnx', '']]) {
            const content = await (await fetch(`folder/${name}`)).blob();
            dropped.items.add(new File([content], name, { type }));
        }
        const event = new DragEvent('drop', { dataTransfer: dropped, bubbles: true });
        document.body.dispatchEvent(event);
    })()""")
    web.wait_for_people(1)


def test_crops_are_the_runtimes_bit_by_bit(web, folder):
    """Random boxes on one picture, as the page's own module makes them."""
    _, contract = pixel_model(input_size_wh=(48, 64))
    frame = frame_of(folder)
    boxes = boxes_around(np.random.default_rng(1), frame, 40)
    made = web.do(f"""(async () => {{
        const {{ boxToCrop, writeCrop }} = await import('{web.url}crop.mjs');
        const model = {contract.to_json()};
        const bgr = {frame.ravel().tolist()};
        const data = Array.from({{ length: bgr.length / 3 }}, (_, i) =>
            [bgr[3 * i + 2], bgr[3 * i + 1], bgr[3 * i], 255]).flat();
        const planes = new Float32Array(3 * model.input_w * model.input_h);
        const hashes = [];
        for (const box of {boxes.tolist()}) {{
            writeCrop({{ data, width: {frame.shape[1]}, height: {frame.shape[0]} }},
                boxToCrop(box, model), model, planes);
            const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', planes));
            hashes.push(Array.from(hash, b => b.toString(16).padStart(2, '0')).join(''));
        }}
        return hashes;
    }})()""")
    centers, scales = boxes_to_crops(boxes, (48, 64), contract.box_padding)
    crops = make_input(frame, centers, scales, contract)
    assert made == [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops]
