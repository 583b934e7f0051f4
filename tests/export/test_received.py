"""Releases as people receive them: published, downloaded by an ordinary client, and used.

Each place serves what was published there; everything that the pages print is run on exactly that.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_server
from cigpose_export.release.sign import sign_release
from cigpose_runtime import cli
from cigpose_runtime.media.images import read_image
from github_server import REPOSITORY, TOKEN, serve_github
from hf_server import serve_hub
from s3_server import BUCKET, serve_s3
from signing import write_keys
from small_release import contents
from tiny_project import CLONE

PHOTOGRAPH = CLONE / "verify" / "cigpose_verify" / "cases" / "photographs" / "astronaut.jpg"
PLACES = ("github", "hf", "file", "s3", "zip")
HF = str(Path(sys.executable).with_name("hf"))


def run(*command, **settings):
    ended = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def publish(release, to, **settings):
    command = ["release", "publish", release, "--to", to, "--allow-synthetic"]
    run(sys.executable, "-m", "cigpose_export.cli.main", *command, **settings)


@contextlib.contextmanager
def served(place, release, folder):
    """Publishes, and downloads all into folder/received by an ordinary client.

    Yields what `get --from` takes for the place while it is served, and the variables that get
    needs to find it here instead of on the internet.
    """
    received = folder / "received"
    if place == "github":
        received.mkdir()
        with serve_github() as server:
            to, tag = f"github:{REPOSITORY}@v1", f"{REPOSITORY}/releases/download/v1"
            publish(release, to, GITHUB_API_URL=server.url, GITHUB_TOKEN=TOKEN)
            assets = [f"{server.url}/{tag}/{name}" for name in server.assets()]
            options = ["-fsSL", "--remote-name-all", "--output-dir", received]
            run("curl", *options, *assets)
            yield to, {"GITHUB_SERVER_URL": server.url}
    elif place == "hf":
        with serve_hub() as server:
            settings = {
                "HF_ENDPOINT": server.url,
                "HF_HUB_DISABLE_XET": "1",
                "HF_HOME": str(folder / "home"),
            }
            publish(release, f"hf:{hf_server.REPOSITORY}", **settings, HF_TOKEN=hf_server.TOKEN)
            run(HF, "download", hf_server.REPOSITORY, "--local-dir", received, **settings)
            assert (received / ".cache" / "huggingface").is_dir()
            yield f"hf:{hf_server.REPOSITORY}", settings
    elif place == "file":
        publish(release, (folder / "there").as_uri())
        run("cp", "-r", folder / "there", received)
        yield (folder / "there").as_uri(), {}
    elif place == "s3":
        with serve_s3() as server:
            publish(
                release,
                f"s3://{BUCKET}/cigpose",
                AWS_ENDPOINT_URL=server.url,
                AWS_ACCESS_KEY_ID="key",
                AWS_SECRET_ACCESS_KEY="s3cret",
                AWS_DEFAULT_REGION="us-east-1",
            )
            for key in server.contents():
                path = received / key.removeprefix("cigpose/")
                run("curl", "-fsSL", "--create-dirs", "-o", path, f"{server.url}/{BUCKET}/{key}")
            yield f"{server.url}/{BUCKET}/cigpose", {}
    else:
        path = Path(shutil.make_archive(str(folder / "release"), "zip", release))
        assert cli.main(["check", str(path)]) == 0
        run("unzip", "-q", path, "-d", received)
        yield str(received), {}


@pytest.fixture(scope="module")
def signed(built, tmp_path_factory):
    """The release, signed, and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    release = shutil.copytree(built, folder / "release")
    private, public = write_keys(folder / "keys")
    sign_release(release, private, password=None)
    return release, public


@pytest.fixture(scope="module", params=PLACES)
def place(request, signed, tmp_path_factory):
    """What a place serves, as it was downloaded; what `get --from` takes; and its variables."""
    folder = tmp_path_factory.mktemp(request.param)
    with served(request.param, signed[0], folder) as (source, settings):
        yield folder / "received", source, settings


@pytest.fixture
def received(place):
    """A folder with what a place serves; not to be changed."""
    return place[0]


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


def run_all(commands, folder, commands_of_users, **settings):
    """Runs commands as they are printed, in a folder; returns how each begins."""
    environment = {**os.environ, "PATH": f"{commands_of_users}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    for command in commands:
        ended = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env={**environment, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
    return [" ".join(command.split()[:2]) for command in commands]


def printed(page):
    """The commands of a page, those in its text last."""
    text = page.read_text("utf-8")
    return [
        *(line[2:] for line in text.splitlines() if line.startswith("$ ")),
        *re.findall("`(cigpose-runtime [^`]+)`", text),
    ]


def test_the_commands_of_the_index_work_on_what_a_place_serves(
    place, signed, commands_of_users, tmp_path
):
    received, source, settings = place
    folder = shutil.copytree(received, tmp_path / "received")
    shutil.copy(PHOTOGRAPH, folder / "photo.jpg")
    settings |= {"CIGPOSE_CACHE": str(tmp_path / "cache")}
    *commands, fetch, check = printed(folder / "README.md")
    fetch = fetch.replace("…", source) + f' --out "{tmp_path}"'
    check = check.replace("FILE", str(signed[1]))
    begun = run_all([*commands, fetch, check], folder, commands_of_users, **settings)
    assert begun == [
        "sha256sum --check",
        "pip install",
        "cigpose-runtime check",
        "cigpose-runtime image",
        "cigpose-runtime get",
        "cigpose-runtime check",
    ]
    assert (folder / "annotated" / "photo.jpg").is_file()
    assert [path.name for path in tmp_path.glob("*.onnx")] == [
        path.name for path in received.glob("*.onnx")
    ]


@pytest.fixture
def alone(received, tmp_path):
    """A folder with a photograph and what the card of a model says, and the card."""
    (model,) = received.glob("*.onnx")
    (wheel,) = received.glob("*.whl")
    folder = tmp_path / "alone"
    folder.mkdir()
    for path in (model, received / f"{model.stem}.golden.zip", wheel):
        shutil.copy(path, folder)
    shutil.copy(PHOTOGRAPH, folder / "photo.jpg")
    return folder, received / f"{model.stem}.md"


def test_the_commands_of_a_card_work_on_a_model_and_its_vectors(alone, commands_of_users):
    folder, card = alone
    assert run_all(printed(card), folder, commands_of_users) == [
        "python -m",
        "sha256sum --check",
        "pip install",
        "cigpose-runtime selftest",
        "cigpose-runtime image",
    ]
    assert (folder / "annotated" / "photo.jpg").is_file()


def test_the_python_of_a_card_runs_beside_the_model(alone):
    folder, card = alone
    (snippet,) = re.findall("```python\n(.*?)```", card.read_text("utf-8"), re.DOTALL)
    ended = subprocess.run(
        [sys.executable, "-c", f"{snippet}\nprint(keypoints.shape, scores.shape)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "(1, 17, 2) (1, 17)"


def test_caliscope_runs_the_model_by_the_card_beside_it(received):
    pytest.importorskip("caliscope", reason="caliscope 0.11.8 is for Python 3.10 to 3.13")
    from caliscope.trackers import tracker_registry

    tracker_registry.clear()
    tracker_registry.scan_onnx_models(received)
    (key,) = tracker_registry.available_names()
    found = tracker_registry.create(key).get_points(read_image(PHOTOGRAPH))
    assert found.img_loc.shape == (len(found.keypoint_id), 2)


def test_provenance_and_bill_of_materials_are_of_what_a_place_serves(received):
    statement = json.loads((received / "provenance.intoto.json").read_text("utf-8"))
    said = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    found = {name: hashlib.sha256((received / name).read_bytes()).hexdigest() for name in said}
    assert said == found
    parts = json.loads((received / "sbom.cdx.json").read_text("utf-8"))["components"]
    (model,) = (part for part in parts if "modelCard" in part)
    assert model["hashes"][0]["content"] == found[f"{model['name']}.onnx"]


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
        for link in re.findall(r"\]\((?!https:)([^)]+)\)", page.read_text())
    ]
    assert len(links) >= 3
    assert [one for one in links if not (received / one[1]).is_file()] == []


def test_the_notes_on_github_link_to_its_assets(built, tmp_path):
    with serve_github() as server:
        publish(built, f"github:{REPOSITORY}@v1", GITHUB_API_URL=server.url, GITHUB_TOKEN=TOKEN)
        (release,) = server.releases.values()
        assert release["body"].startswith("# CIGPose in ONNX")
        (tmp_path / "notes.md").write_text(release["body"], "utf-8")
        assert printed(tmp_path / "notes.md") == printed(built / "README.md")
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
