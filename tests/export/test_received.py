"""Releases as people receive them: published, downloaded by an ordinary client, and used.

Each place serves what was published there; what the pages print is run on exactly that.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hf_server
from cigpose_runtime import cli
from github_server import REPOSITORY, TOKEN, serve_github
from hf_server import serve_hub
from s3_server import serve_s3
from small_release import contents
from tiny_project import CLONE

PHOTOGRAPH = CLONE / "verify" / "cigpose_verify" / "cases" / "photographs" / "astronaut.jpg"
PLACES = ("github", "hf", "file", "s3", "zip")


def publish(release, to, **settings):
    command = ["release", "publish", str(release), "--to", to, "--allow-synthetic"]
    ended = subprocess.run(
        [sys.executable, "-m", "cigpose_export.cli.main", *command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@contextlib.contextmanager
def served(place, release, folder):
    """Publishes; yields what an ordinary client downloads from there, by name."""
    if place == "github":
        with serve_github() as server:
            publish(
                release,
                f"github:{REPOSITORY}@v1",
                GITHUB_API_URL=server.url,
                GITHUB_TOKEN=TOKEN,
            )
            yield server.assets()
    elif place == "hf":
        with serve_hub() as server:
            publish(
                release,
                f"hf:{hf_server.REPOSITORY}",
                HF_ENDPOINT=server.url,
                HF_TOKEN=hf_server.TOKEN,
                HF_HUB_DISABLE_XET="1",
                HF_HOME=str(folder / "home"),
            )
            yield server.main
    elif place == "file":
        publish(release, (folder / "there").as_uri())
        yield contents(folder / "there")
    elif place == "s3":
        with serve_s3() as server:
            publish(
                release,
                "s3://bucket/cigpose",
                AWS_ENDPOINT_URL=server.url,
                AWS_ACCESS_KEY_ID="key",
                AWS_SECRET_ACCESS_KEY="s3cret",
                AWS_DEFAULT_REGION="us-east-1",
            )
            yield {k.removeprefix("cigpose/"): v for k, v in server.contents().items()}
    else:
        path = Path(shutil.make_archive(str(folder / "release"), "zip", release))
        assert cli.main(["check", str(path)]) == 0
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / "unzipped")
        yield contents(folder / "unzipped")


@pytest.fixture(scope="module", params=PLACES)
def received(request, built, tmp_path_factory):
    """A folder with what a place serves."""
    folder = tmp_path_factory.mktemp(request.param)
    with served(request.param, built, folder) as files:
        for name, content in files.items():
            (folder / "received" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "received" / name).write_bytes(content)
    if request.param == "hf":  # as `hf download --local-dir` leaves it
        (folder / "received" / ".cache" / "huggingface" / "download").mkdir(parents=True)
    return folder / "received"


@pytest.fixture(scope="module")
def commands_of_users(built, tmp_path_factory):
    """A folder for PATH, in which pip installs without a network and python has what is here."""
    folder = tmp_path_factory.mktemp("user")
    options = f'--no-deps --no-index --quiet --target "{folder}"'
    pip = f'shift; exec "{sys.executable}" -m pip install {options} "$@"'
    run = f'PYTHONPATH="{folder}" exec "{sys.executable}" -P -m cigpose_runtime.cli "$@"'
    for name, script in (
        ("pip", pip),
        ("python", f'exec "{sys.executable}" "$@"'),
        ("cigpose-runtime", run),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def run_printed(page, folder, commands_of_users, tmp_path):
    """Runs the commands of a page in a folder; returns how each begins."""
    shutil.copy(PHOTOGRAPH, tmp_path / "photo.jpg")
    environment = {**os.environ, "PATH": f"{commands_of_users}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    commands = [line[2:] for line in page.read_text().splitlines() if line.startswith("$ ")]
    for command in commands:
        elsewhere = command.replace("photo.jpg", f"{tmp_path}/photo.jpg")
        ended = subprocess.run(
            elsewhere.replace("annotated/", f"{tmp_path}/annotated/"),
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
    assert (tmp_path / "annotated" / "photo.jpg").is_file()
    return [" ".join(command.split()[:2]) for command in commands]


def test_the_commands_of_the_index_work_on_what_a_place_serves(
    received, commands_of_users, tmp_path
):
    assert run_printed(received / "README.md", received, commands_of_users, tmp_path) == [
        "sha256sum --check",
        "pip install",
        "cigpose-runtime check",
        "cigpose-runtime image",
    ]


def test_the_commands_of_a_card_work_on_a_model_and_its_vectors(
    received, commands_of_users, tmp_path
):
    (model,) = received.glob("*.onnx")
    (wheel,) = received.glob("*.whl")
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (model, received / f"{model.stem}.golden.zip", wheel):
        shutil.copy(path, alone)
    assert run_printed(received / f"{model.stem}.md", alone, commands_of_users, tmp_path) == [
        "python -m",
        "sha256sum --check",
        "pip install",
        "cigpose-runtime selftest",
        "cigpose-runtime image",
    ]


def test_the_models_of_flat_assets_pass_their_selftest(received):
    (model,) = received.glob("*.onnx")
    assert cli.main(["selftest", str(model)]) == 0


@pytest.mark.parametrize("name", ["model (1).onnx", "cigpose-m_coco_256x192 (2).onnx"])
def test_vectors_are_found_by_the_name_in_a_model_that_was_renamed(built, tmp_path, name):
    shutil.copytree(built / "golden", tmp_path / "golden")
    (model,) = built.glob("*.onnx")
    shutil.copy(model, tmp_path / name)
    assert cli.main(["selftest", str(tmp_path / name)]) == 0


def test_a_model_without_vectors_is_told_where_they_are(built, tmp_path, capsys):
    (model,) = built.glob("*.onnx")
    shutil.copy(model, tmp_path)
    assert cli.main(["selftest", str(tmp_path / model.name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "NAME.golden.zip" in line
    assert "selftest --golden DIR" in line


def test_every_link_of_a_page_leads_to_what_a_place_serves(received):
    links = [
        (page.name, link)
        for page in received.glob("*.md")
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text())
    ]
    assert len(links) >= 3
    assert [one for one in links if not (received / one[1]).is_file()] == []


def test_the_notes_on_github_link_to_its_assets(built, tmp_path):
    with serve_github() as server:
        publish(built, f"github:{REPOSITORY}@v1", GITHUB_API_URL=server.url, GITHUB_TOKEN=TOKEN)
        (release,) = server.releases.values()
        assert release["body"].startswith("# CIGPose in ONNX")
        links = re.findall(r"\]\(([^)]+)\)", release["body"])
        base = f"https://github.com/{REPOSITORY}/releases/download/v1/"
        assert links
        assert {link.removeprefix(base) for link in links} <= set(server.assets())


def test_a_missing_altered_or_added_asset_is_named(built, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path, content in contents(built).items():
        (flat / path.replace("/", "--")).write_bytes(content)
    vectors = sorted(flat.glob("golden--*.pb"))
    vectors[0].unlink()
    vectors[1].write_bytes(b"other")
    (flat / "other.onnx").write_bytes(b"x")
    assert cli.main(["check", str(flat)]) == 1
    said = capsys.readouterr().err
    for name in (vectors[0].name, vectors[1].name, "other.onnx"):
        assert f"{name}: expected" in said


@pytest.mark.parametrize("name", ["golden--tiny--..--..--x", "golden--tiny--NUL"])
def test_assets_whose_names_leave_the_folder_are_refused(built, tmp_path, name, capsys):
    (model,) = built.glob("*.onnx")
    shutil.copy(model, tmp_path / "tiny.onnx")
    (tmp_path / "golden--tiny--golden.json").write_text("{}")
    (tmp_path / name).write_text("x")
    assert cli.main(["selftest", str(tmp_path / "tiny.onnx")]) == 1
    assert "expected a relative path" in capsys.readouterr().err
