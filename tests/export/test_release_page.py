"""The web page in a release: a file like any, there with its engine alone, ready to be served."""

import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from chromium import chromium
from cigpose_export.cli import main as cli
from cigpose_export.release.build import build_release
from cigpose_export.release.web_page import NPM_INSTALL, PAGE
from cigpose_runtime import PoseModel
from cigpose_runtime.errors import CheckError
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import read_manifest
from cigpose_runtime.web.engine import VERSION
from web_page import ENGINE, Web, any_server, needs_the_page

pytestmark = needs_the_page


def build(project, out):
    models = project.artefact_folder("synthetic")
    return build_release(project, models, out, allow_synthetic=True)


@pytest.fixture(scope="module")
def modules(release_project):
    """The folder of npm packages in the release's clone, with the pinned engine."""
    folder = release_project.root / "runtime/examples/node_modules"
    folder.mkdir()
    (folder / ENGINE.name).symlink_to(ENGINE)
    yield folder
    (folder / ENGINE.name).unlink()
    folder.rmdir()


@pytest.fixture(scope="module")
def released(release_project, modules, tmp_path_factory):
    """A release with the page."""
    out = tmp_path_factory.mktemp("with a page") / "release"
    build(release_project, out)
    return out


@pytest.fixture(scope="module")
def site(released, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(released / PAGE) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def test_the_page_is_a_file_of_the_release_like_any(released):
    _, errors = check_release(released)
    assert errors == []
    assert PAGE in {file.path for file in read_manifest(released).files}
    parts = json.loads((released / "sbom.cdx.json").read_text())["components"]
    assert f"pkg:npm/onnxruntime-web@{VERSION}" in {part.get("purl") for part in parts}


def test_it_has_the_same_bytes_again(release_project, released, tmp_path):
    build(release_project, tmp_path / "again")
    assert (tmp_path / "again" / PAGE).read_bytes() == (released / PAGE).read_bytes()


def test_it_comes_with_the_licences_of_what_is_in_it(site):
    for name, said in {
        "LICENSE": "Apache License",
        "NOTICE": "CIGPose",
        "engine/LICENSE.txt": "Copyright (c) Microsoft Corporation",
    }.items():
        assert said in (site / name).read_text()


def test_unpacked_behind_any_server_one_click_shows_a_released_model(site, released, tmp_path):
    (model,) = released.glob("*.onnx")
    picture, (box,) = next(iter(json.loads((site / "folder/boxes.json").read_text()).items()))
    with chromium(tmp_path / "profile") as browser, any_server(site) as url:
        page = Web(browser, url, tmp_path)
        page.click("demo")
        page.wait_for_people(1)
        (line,) = page.results()
        assert page.complaints() == ([], [])
    rgb = np.asarray(Image.open(site / "folder" / picture).convert("RGB"))
    poses = PoseModel(model)(np.ascontiguousarray(rgb[..., ::-1]), [box])
    (person,) = line["people"]
    np.testing.assert_allclose(person["keypoints"], poses.keypoints[0], atol=1e-3)


def test_another_engine_stops_the_build(release_project, modules, tmp_path):
    engine = modules / ENGINE.name
    engine.unlink()
    (tmp_path / "other/dist").mkdir(parents=True)
    for path in (ENGINE / "dist").iterdir():
        (tmp_path / "other/dist" / path.name).write_bytes(b"other")
    engine.symlink_to(tmp_path / "other")
    try:
        with pytest.raises(CheckError, match="found other content"):
            build(release_project, tmp_path / "release")
        assert not (tmp_path / "release").exists()
    finally:
        engine.unlink()
        engine.symlink_to(ENGINE)


def test_without_npm_one_line_says_how_to_get_it(release_project, modules, tmp_path):
    (modules / ENGINE.name).rename(tmp_path / "engine")
    try:
        project, out = str(release_project.root), str(tmp_path / "release")
        options = ["--weights", "synthetic", "--allow-synthetic", "--out", out]
        command = ["--project", project, "release", "build", *options]
        ended = CliRunner().invoke(cli.tools, command, standalone_mode=False)
    finally:
        (tmp_path / "engine").rename(modules / ENGINE.name)
    assert f"{NPM_INSTALL}\n" in ended.output
    assert PAGE not in {file.path for file in read_manifest(tmp_path / "release").files}
