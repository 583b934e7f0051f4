"""Releases as no build writes them: manifests, golden vectors, archives and servers by seed.

Run as a program, for a test to hold the limits: each case is one call of the command line in a
process that dies of 10 s of CPU in one case, and that cannot have 1.5 GB more than it starts with.
It prints one JSON document; a traceback, a message of more than a line, or wrong bytes are named
in it by their seed.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

from cigpose_runtime import cli
from cigpose_runtime.errors import CigposeError
from cigpose_runtime.releases import download, http
from cigpose_runtime.releases.manifest import MANIFEST, SUMS, Manifest, sums_of
from fuzzing import MEMORY, Cases
from raw_server import UNTIL_THE_CLIENT_LEAVES, answering, response

WALL_S = 120

MODEL = "tiny"
ODD = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 1e300, float("inf"), float("nan"), 0.5),
    *("", "x", "x" * 100_000, "../x", "/etc/passwd", "a/../../b", "a\\b", "C:x", "NUL.onnx", ".x"),
    *("\x1b[2J\x07", "\ud800", "a\nb", "\u202e", "tiny.onnx", "TINY.onnx", "tiny.onnx/x"),
    *("golden/tiny/x.py", "golden/tiny/golden.json", "model.sig", "manifest.json", "0" * 64),
    *([], {}, [[]], [None] * 5000, {"a": {}}, [0, [1, [2]]], {str(n): "x" for n in range(600)}),
]
_WRITTEN = re.compile(r"tiny\.onnx|golden/tiny/.+\.(json|pb)")


class WrongBytesError(Exception):
    """What is there after a command is not what its manifest says."""


def main(kind, release, first, count):
    """Runs cases by seed and prints what came of them."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, virtual + MEMORY))
    download.time.sleep = lambda _seconds: None
    http.TIMEOUT_S = 0.3
    cases = Cases()
    with tempfile.TemporaryDirectory() as folder, KINDS[kind](Path(folder), release) as run:
        os.environ["CIGPOSE_CACHE"] = f"{folder}/cache"
        for seed in range(first, first + count):
            signal.alarm(WALL_S)
            with cases.case(seed) as count_status:
                count_status(run(random.Random(f"{kind} {seed}")))
    signal.alarm(0)
    cases.report()


def command(*arguments):
    """The exit status of a command that has said at most one line for each error, and no more."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(arguments))
    lines = [*out.getvalue().split("\n"), *err.getvalue().split("\n")]
    if not all(line.isprintable() for line in lines):
        raise AssertionError(f"a line that is not printable: {lines}")
    problems = [line for line in lines if "error: " in line]
    if status not in (0, 1, 2) or bool(problems) != bool(status):
        raise AssertionError(f"status {status} with {problems}")
    if not all("expected" in problem and len(problem) < 3000 for problem in problems):
        raise AssertionError(f"no message of ours: {problems}")
    return status


# What is changed


def changed_json(rng, text):
    """A few nodes of a document replaced, removed, doubled; or the text itself spoilt."""
    if rng.random() < 0.2:
        return changed_bytes(rng, text.encode()).decode("utf-8", "replace")
    document = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 5))):
        document = _changed_node(rng, document)
    text = json.dumps(document)
    if rng.random() < 0.1:
        deep = rng.choice(("[", '{"a":'))
        text = text.replace("null", deep * rng.choice((10, 1000, 100_000)), 1)
    return text


def _changed_node(rng, node):
    if rng.random() < 0.2 or not node or not isinstance(node, (dict, list)):
        return rng.choice(ODD)
    key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    node = node.copy()
    action = rng.random()
    if action < 0.1:
        del node[key]
    elif action < 0.2 and isinstance(node, dict):
        node[str(rng.choice(ODD))[:200]] = node[key]
    elif action < 0.3 and isinstance(node, list):
        node.insert(rng.randrange(len(node)), node[key])
    else:
        node[key] = _changed_node(rng, node[key])
    return node


def changed_bytes(rng, content):
    """Bits flipped, pieces cut, doubled or replaced."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(content) + 1)
        action = rng.randrange(5)
        if action == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del content[at : at + rng.choice((1, 4, 100, len(content)))]
        elif action == 2:
            content[at:at] = content[at : at + rng.choice((1, 4, 100, 1000))]
        elif action == 3:
            content[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 0xFFFF, 2**31, 2**32 - 1)))
        else:
            content[at : at + 2] = rng.choice((b"\0\0", b"\xff\xff", b"\x80\x80", b"[[", b'"}'))
    return bytes(content)


# Manifests and golden vectors, in a folder


@contextlib.contextmanager
def manifests(folder, release):
    """Half of them the manifest, half a file of the golden vectors with sums that are right."""
    there = folder / "release"
    shutil.copytree(release, there)
    whole = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    vectors = sorted(path for path in whole if "golden" in path.parts)

    def run(rng):
        if rng.random() < 0.5:
            text = changed_json(rng, whole[there / MANIFEST].decode())
            (there / MANIFEST).write_text(text, "utf-8", "surrogatepass")
        else:
            path = rng.choice(vectors)
            if path.suffix == ".json":
                path.write_text(changed_json(rng, whole[path].decode()), "utf-8", "surrogatepass")
            else:
                path.write_bytes(changed_bytes(rng, whole[path]))
            document = json.loads(whole[there / MANIFEST])
            for file in document["files"]:
                if there / file["path"] == path:
                    content = path.read_bytes()
                    file.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
            (there / MANIFEST).write_text(json.dumps(document))
        with contextlib.suppress(CigposeError):
            manifest = Manifest.from_json((there / MANIFEST).read_text("utf-8", "replace"))
            (there / SUMS).write_text(sums_of(there, manifest))
        status = command("check", str(there))
        get(folder, str(there), (there / MANIFEST).read_bytes())
        for path, content in whole.items():
            path.write_bytes(content)
        return status

    yield run


def get(folder, source, manifest):
    """Gets the model; what is there then is what the manifest says, and nothing else is there."""
    before = sorted(path.name for path in folder.iterdir())
    status = command("get", MODEL, "--from", source, "--out", str(folder / "out"))
    out = folder / "out"
    written = [path for path in out.rglob("*") if not path.is_dir()]
    names = {path.relative_to(out).as_posix(): path for path in written}
    if status == 0:
        expected = {file["path"]: file["sha256"] for file in json.loads(manifest)["files"]}
        expected[f"golden/{MODEL}/{MANIFEST}"] = hashlib.sha256(manifest).hexdigest()
        for name, path in names.items():
            if hashlib.sha256(path.read_bytes()).hexdigest() != expected[name]:
                raise WrongBytesError(name)
        if f"{MODEL}.onnx" not in names:
            raise WrongBytesError("no model")
    if not all(_WRITTEN.fullmatch(name) for name in names):
        raise WrongBytesError(f"files of other names: {sorted(names)}")
    shutil.rmtree(out, ignore_errors=True)
    if sorted({*(path.name for path in folder.iterdir()), "cache"}) != sorted({*before, "cache"}):
        raise WrongBytesError("files elsewhere")
    return status


# Archives


@contextlib.contextmanager
def archives(folder, release):
    """Bytes anywhere, or fields of the headers by which sizes and places are believed."""
    path = folder / "release.zip"
    wholes = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(release.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(release).as_posix())
        wholes.append(path.read_bytes())
    manifest = (release / MANIFEST).read_text()
    files = len(json.loads(manifest)["files"])

    def run(rng):
        content = bytearray(rng.choice(wholes))
        heads = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)]
        for _ in range(rng.choice((1, 1, 3, 10))):
            at = rng.choice(heads) + rng.randrange(4, 46)
            size = rng.choice((1, 2, 4))
            value = rng.choice((0, 1, 7, 12, 99, 255, 2**16 - 1, 2**31, 2**32 - 1))
            content[at : at + size] = (value % 256**size).to_bytes(size, "little")
        if rng.random() < 0.5:
            content = changed_bytes(rng, bytes(content))
        path.write_bytes(content)
        status = command("check", str(path))
        if status == 0:  # then there is nothing changed but what nobody reads
            with zipfile.ZipFile(path) as archive:
                if archive.read(MANIFEST).decode() != manifest or len(archive.infolist()) < files:
                    raise WrongBytesError("an archive that passes holds other files")
        return status

    yield run


# Servers


@contextlib.contextmanager
def servers(folder, release):
    """Statuses, headers, lengths, chunks and redirects at random, around right and wrong bytes."""
    names = [path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()]
    served = {f"/{name}": (release / name).read_bytes() for name in names}
    current = {}

    def answer(path):
        rng = current["rng"]
        content = served.get(path, b"")
        if rng.random() < 0.5:
            return [response(200, f"Content-Length: {len(content)}"), content]
        return odd_answer(rng, path, content)

    with answering(answer) as server:

        def run(rng):
            current["rng"] = rng
            shutil.rmtree(folder / "cache", ignore_errors=True)
            return get(folder, server.url, served[f"/{MANIFEST}"])

        yield run


def odd_answer(rng, path, content):
    """The portions of an answer that is odd in one way or in several."""
    status = rng.choice((200, 200, 200, 206, 206, 100, 101, 204, 301, 302, 304, 307, 404, 500, 999))
    targets = (path, "/elsewhere", "file:///etc/passwd", "ftp://x/", "http://[", "//", "?a", "\xff")
    headers = [
        f"Location: {rng.choice(targets)}",
        f"Content-Length: {rng.choice((len(content), 0, 1, -1, 10**30, 'x', len(content) + 1))}",
        f"Content-Range: bytes {rng.choice((0, 5, 'x'))}-",
        "Content-Encoding: gzip",
        "Transfer-Encoding: chunked",
        "Connection: keep-alive",
        "X: " + "x" * rng.choice((10, 70_000)),
        "no header",
    ]
    portions = [response(status, *(one for one in headers if rng.random() < 0.3))]
    if rng.random() < 0.3:
        content = changed_bytes(rng, content)
    if b"chunked" in portions[0] and rng.random() < 0.8:
        cut = rng.randrange(len(content) + 1)
        for piece in (content[:cut], content[cut:], b""):
            portions += [f"{len(piece):x}\r\n".encode(), piece, b"\r\n"]
    else:
        portions.append(content)
    if rng.random() < 0.2:
        portions = [changed_bytes(rng, b"".join(portions))]
    if rng.random() < 0.02:
        portions.append(UNTIL_THE_CLIENT_LEAVES)
    return portions


KINDS = {"manifests": manifests, "archives": archives, "servers": servers}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
