"""Releases without models, for what does not look into models."""

import hashlib

import numpy as np

from cigpose_runtime.releases.manifest import MANIFEST, SUMS, Manifest, ReleasedFile, sums_of

NAMES = ("LICENSE", "README.md", "golden/one/input_0.pb", "parity/index.html", "weights.bin")


def contents(folder):
    """What is in a folder, by path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def make_release(folder, *, seed=0, rehearsal=False, version="1.2.3", names=NAMES):
    """Writes a release that passes its check; returns its files' content by path."""
    rng = np.random.default_rng(seed)
    files = []
    for name in names:
        content = rng.bytes(int(rng.integers(1, 5000)))
        if name == "README.md":
            content = f"# A release of seed {seed}\n".encode()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        files.append(ReleasedFile(name, len(content), hashlib.sha256(content).hexdigest()))
    manifest = Manifest(
        rehearsal=rehearsal,
        version=version,
        files=tuple(files),
        models={},
        sources={},
        tools={},
        lock_sha256="",
        commit="",
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    (folder / SUMS).write_text(sums_of(folder, manifest))
    return contents(folder)
