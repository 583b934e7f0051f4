"""Publishing: whatever fails, in the end there is exactly the release, made visible once.

The servers are on loopback: a GitHub of the tests' own, and moto's S3.
"""

import contextlib
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import hf_server
from cigpose_export.cli import main as cli
from cigpose_export.errors import CredentialsError, PublishError
from cigpose_export.release import github as github_module
from cigpose_export.release.publish import Publication, open_target
from cigpose_export.release.store import REPLACED
from cigpose_runtime.releases.check import check_release
from cigpose_runtime.releases.manifest import MANIFEST, asset_name
from github_server import REPOSITORY, TOKEN, serve_github
from hf_server import serve_hub
from raw_server import answering, response
from s3_server import serve_s3
from small_release import NAMES, contents, make_release

TO_GITHUB = f"github:{REPOSITORY}@v1.2.3"


@contextlib.contextmanager
def no_progress(_title, _size):
    yield lambda _count: None


@pytest.fixture
def release(tmp_path):
    make_release(tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def github(monkeypatch):
    monkeypatch.setattr(github_module, "TIMEOUT_S", (2, 0.3))
    with serve_github() as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        yield server


def publish(release, to, *, update=False, allow_synthetic=False):
    """Publishes without waiting; returns how many files were sent, and what was said."""
    said = []
    publication = Publication.of(
        release,
        to,
        update=update,
        allow_synthetic=allow_synthetic,
        progress=no_progress,
        say=said.append,
        sleep=lambda _seconds: None,
    )
    publication.run()
    return publication.uploaded, said


def assert_published_once(github, release):
    assert github.assets() == {asset_name(k): v for k, v in contents(release).items()}
    (one,) = github.releases.values()
    assert (one["draft"], github.published) == (False, 1)


# GitHub


def test_a_release_becomes_assets_behind_a_draft(github, release):
    sent, said = publish(release, TO_GITHUB)
    assert (sent, said) == (len(NAMES) + 2, [])
    assert_published_once(github, release)
    (one,) = github.releases.values()
    assert one["body"] == "# A release of seed 0\n"
    kinds = [request.partition(" ")[0] for request in github.requests]
    assert kinds.count("PATCH") == 1
    last_upload = max(i for i, r in enumerate(github.requests) if r.startswith("POST /upload"))
    assert last_upload < kinds.index("PATCH")


def test_a_second_run_sends_nothing(github, release):
    publish(release, TO_GITHUB)
    assert publish(release, TO_GITHUB) == (0, [])
    assert_published_once(github, release)


@pytest.mark.parametrize("digests", [True, False], ids=["with digests", "without"])
@pytest.mark.parametrize("kind", ["500", "502", "cut", "lost", "slow", "limit", "half", "exists"])
def test_a_failure_at_any_request_is_overcome(github, release, kind, digests):
    failed, number = 0, 1  # what fails first, the credentials, is another test's
    while True:
        github.releases.clear()
        github.requests.clear()
        github.published, github.digests = 0, digests
        github.failure = number, kind
        _, said = publish(release, TO_GITHUB)
        assert_published_once(github, release)
        if len(github.requests) <= number:
            break
        failed += bool(said)
        number += 1
    assert number > 20
    assert failed >= (len(NAMES) if kind == "exists" else 10)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_ends_at_any_request_is_completed_by_the_next(
    github, release, monkeypatch, after
):
    """As by Ctrl-C, just before or just after the server has acted."""

    class EndError(Exception):
        pass

    request = github_module.requests.Session.request
    number = 0
    while True:
        github.releases.clear()
        github.published, count = 0, 0

        def ending(session, *args, _number=number, **kwargs):
            nonlocal count
            count += 1
            if count - 1 == _number and not after:
                raise EndError
            answer = request(session, *args, **kwargs)
            if count - 1 == _number:
                raise EndError
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(github_module.requests.Session, "request", ending)
            try:
                publish(release, TO_GITHUB)
                break
            except EndError:
                pass
        sent, _ = publish(release, TO_GITHUB)
        assert_published_once(github, release)
        assert sent <= len(NAMES) + 2
        number += 1
    assert number > 20


def test_a_server_that_stays_broken_ends_in_one_line(github, release, monkeypatch):
    publish_to = open_target(TO_GITHUB, release)
    monkeypatch.setattr(publish_to, "check_access", lambda: None)
    github.releases["x"] = None  # breaks the listing: the handler fails, the connection ends
    with pytest.raises(PublishError, match="gave up after 5 tries; run the same command"):
        publish(release, TO_GITHUB)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b'"\\ud800"',
        b"[3]",
        b'{"permissions": []}',
        b'{"permissions": {}}',
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_server_that_is_no_github_ends_in_one_line(release, monkeypatch, body, status):
    head = response(status, f"Content-Length: {len(body)}", "Connection: close")
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with answering(lambda _path: [head, body]) as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        with pytest.raises((PublishError, CredentialsError)) as caught:
            publish(release, TO_GITHUB)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_another_release_under_the_tag_is_refused(github, release, tmp_path):
    publish(release, TO_GITHUB)
    make_release(tmp_path / "other", seed=1)
    before = dict(github.assets())
    with pytest.raises(PublishError, match=r"found a release that differs in LICENSE.*--update"):
        publish(tmp_path / "other", TO_GITHUB)
    assert github.assets() == before
    publish(tmp_path / "other", TO_GITHUB, update=True)
    assert_published_once(github, tmp_path / "other")


def test_an_update_removes_what_the_new_release_lacks(github, release, tmp_path):
    publish(release, TO_GITHUB)
    make_release(tmp_path / "fewer", seed=1, names=NAMES[:2])
    publish(tmp_path / "fewer", TO_GITHUB, update=True)
    assert_published_once(github, tmp_path / "fewer")


def test_two_drafts_of_a_tag_are_refused(github, release):
    for number in (1, 2):
        github.releases[number] = {"id": number, "tag_name": "v1.2.3", "draft": True, "assets": {}}
    with pytest.raises(PublishError, match="expected one release or draft at most, found 2"):
        publish(release, TO_GITHUB)


def test_a_file_that_is_changed_on_its_way_is_sent_anew(github, release, monkeypatch):
    github.digests = False
    put, spoilt = github_module.GithubTarget.put, []

    def spoiling(self, path, file, on_bytes):
        if path == "weights.bin" and not spoilt:
            spoilt.append(release / "other.bin")
            content = bytearray(file.read_bytes())
            content[0] ^= 1
            (release.parent / "other.bin").write_bytes(content)
            file = release.parent / "other.bin"
        put(self, path, file, on_bytes)

    monkeypatch.setattr(github_module.GithubTarget, "put", spoiling)
    _, said = publish(release, TO_GITHUB)
    assert said[0].startswith("weights.bin: expected what was uploaded, read back something else")
    assert_published_once(github, release)


def test_no_token_is_said_before_anything_is_sent(github, release, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(CredentialsError, match="expected a token in GITHUB_TOKEN; create one"):
        publish(release, TO_GITHUB)
    assert github.requests == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g, m: m.setenv("GITHUB_TOKEN", "s3cret"), "401 Bad credentials"),
        (lambda g, m: setattr(g, "push", False), "found one that may only read"),
    ],
)
def test_a_token_that_does_not_suffice_is_said_first_and_not_printed(
    github, release, monkeypatch, spoil, message
):
    spoil(github, monkeypatch)
    ended = CliRunner().invoke(
        cli.tools, ["release", "publish", str(release), "--to", TO_GITHUB], standalone_mode=False
    )
    assert isinstance(ended.exception, CredentialsError)
    assert message in str(ended.exception)
    assert "s3cret" not in str(ended.exception) + ended.output
    assert len(github.requests) == 1


def test_a_dry_run_says_what_would_be_done(github, release):
    command = ["release", "publish", str(release), "--to", TO_GITHUB, "--dry-run"]
    ended = CliRunner().invoke(cli.tools, command, standalone_mode=False)
    assert ended.exception is None
    lines = ended.output.splitlines()
    assert "upload golden--one--input_0.pb" in lines
    assert lines[-1].startswith("7 of 7 files to upload, ")
    assert not [request for request in github.requests if not request.startswith("GET")]


# Hugging Face; its library reads its settings once, hence a process for each run


@pytest.fixture
def hub():
    with serve_hub() as server:
        yield server


def publish_on_hub(hub, release, *options, **settings):
    """Exit status and what was said."""
    command = ["release", "publish", str(release), "--to", f"hf:{hf_server.REPOSITORY}"]
    ended = subprocess.run(
        [sys.executable, "-m", "cigpose_export.cli.main", *command, *options],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hf_server.TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HOME": str(release.parent / "hf"),
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stderr


def on_hub(files):
    return {path: content for path, content in files.items() if path != ".gitattributes"}


def test_a_release_becomes_a_tagged_commit_on_hugging_face(hub, release, tmp_path):
    status, said = publish_on_hub(hub, release)
    assert status == 0, said
    assert on_hub(hub.tags["v1.2.3"]) == contents(release)
    assert hub.commits == 1
    sent = len(hub.large)
    assert publish_on_hub(hub, release)[0] == 0
    assert (hub.commits, len(hub.large)) == (1, sent)

    make_release(tmp_path / "other", seed=1, names=NAMES[:3])
    status, said = publish_on_hub(hub, tmp_path / "other")
    assert status == 1
    assert "found a release that differs in" in said
    assert on_hub(hub.main) == contents(release)
    assert publish_on_hub(hub, tmp_path / "other", "--update")[0] == 0
    assert on_hub(hub.tags["v1.2.3"]) == contents(tmp_path / "other")


@pytest.mark.parametrize("part", ["/refs", "/tree/", "/preupload/", "/batch", "/commit/", "/tag/"])
def test_a_failure_of_hugging_face_is_overcome(hub, release, part):
    hub.fail_on = part
    status, said = publish_on_hub(hub, release)
    assert status == 0, said
    assert hub.fail_on is None
    assert on_hub(hub.tags["v1.2.3"]) == contents(release)


def test_a_token_that_hugging_face_does_not_know(hub, release):
    status, said = publish_on_hub(hub, release, HF_TOKEN="hf_s3cret")
    assert status == 2
    assert "expected a token that may write" in said
    assert "s3cret" not in said
    assert hub.main is None


# Any target


def test_a_rehearsal_is_refused_unless_allowed(github, tmp_path):
    make_release(tmp_path / "rehearsal", rehearsal=True)
    with pytest.raises(PublishError, match="expected real weights, found a rehearsal"):
        publish(tmp_path / "rehearsal", TO_GITHUB)
    publish(tmp_path / "rehearsal", TO_GITHUB, allow_synthetic=True)
    (one,) = github.releases.values()
    assert one["prerelease"] is True


def test_a_release_that_fails_its_check_is_refused(github, release):
    (release / "weights.bin").write_bytes(b"other")
    with pytest.raises(Exception, match=r"weights\.bin: expected \d+ bytes"):
        publish(release, TO_GITHUB)
    assert github.releases == {}


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("somewhere", "expected github:OWNER/REPO@TAG, hf:ORG/REPO or a URL"),
        ("github:somebody", "expected github:OWNER/REPO@TAG"),
        ("github:somebody/models", "expected github:OWNER/REPO@TAG"),
        ("hf:models", "expected hf:ORG/REPO"),
        ("nothing://bucket/folder", "expected a URL that fsspec can open"),
        ("file:///", "expected a folder, found the root; name a folder"),
    ],
)
def test_a_target_that_is_none_is_one_line(release, to, message):
    with pytest.raises(PublishError, match=message) as caught:
        open_target(to, release)
    assert "\n" not in str(caught.value)


# Folders and buckets


@pytest.fixture
def s3(monkeypatch):
    with serve_s3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield server


def test_a_folder_gets_its_manifest_last(release, tmp_path):
    to = (tmp_path / "there").as_uri()
    assert publish(release, to) == (len(NAMES) + 1, [])
    assert contents(tmp_path / "there") == contents(release)
    assert check_release(tmp_path / "there")[1] == []
    assert publish(release, to) == (0, [])


def test_a_folder_with_other_things_in_it_is_refused(release, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "diary.txt").write_text("x")
    with pytest.raises(PublishError, match=r"diary\.txt: expected only files of releases"):
        publish(release, (tmp_path / "there").as_uri())


def test_an_update_notices_files_that_only_their_content_tells_apart(release, tmp_path):
    to = (tmp_path / "there").as_uri()
    publish(release, to)
    for path in (tmp_path / "there").rglob("*"):
        if path.is_file() and path.name != MANIFEST:
            path.write_bytes(bytes(path.stat().st_size))
    before = contents(tmp_path / "there")
    with pytest.raises(PublishError, match="found a release that differs in LICENSE"):
        publish(release, to)
    assert contents(tmp_path / "there") == before
    sent, said = publish(release, to, update=True)
    assert contents(tmp_path / "there") == contents(release)
    assert (sent, len(said)) == (len(NAMES) + 1, 1)


def test_an_update_of_a_folder_goes_on_after_it_was_interrupted(release, tmp_path, monkeypatch):
    there = tmp_path / "there"
    publish(release, there.as_uri())
    make_release(tmp_path / "other", seed=1, names=NAMES[:3])
    with pytest.raises(PublishError, match="--update"):
        publish(tmp_path / "other", there.as_uri())
    with monkeypatch.context() as patch:
        patch.setattr(Publication, "_compare", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(tmp_path / "other", there.as_uri(), update=True)
    assert (there / REPLACED).exists()
    assert not (there / MANIFEST).exists()
    publish(tmp_path / "other", there.as_uri())
    assert contents(there) == contents(tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("lost", 5),
        *(pytest.param(kind, 1, marks=pytest.mark.long) for kind in ("lost", "500", "cut")),
    ],
)
def test_a_failure_at_any_request_to_s3_is_overcome(s3, release, kind, step):
    number = 1
    while True:
        s3.clear()
        s3.failure = number, kind
        publish(release, "s3://bucket/models")
        requests, s3.failure = s3.requests, None
        assert s3.contents() == {f"models/{k}": v for k, v in contents(release).items()}
        if requests <= number:
            break
        number += step
    assert number > 20


def test_a_bucket_that_takes_no_such_key_is_said(s3, release):
    s3.denied = True
    with pytest.raises(CredentialsError, match="access denied when listing it") as caught:
        publish(release, "s3://bucket/models")
    assert "s3cret" not in str(caught.value)
