"""Whatever releases hold and servers answer: one line, the right bytes or none, within bounds."""

import json
import sys

import numpy as np
import pytest
from onnx import numpy_helper

from cigpose_runtime.cli import main
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.manifest import MANIFEST, SUMS, Manifest, ReleasedFile, sums_of
from tiny_onnx import tiny_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")

CASES = {"manifests": 120, "archives": 120, "servers": 120}
MANY = {"manifests": 8_000, "archives": 6_000, "servers": 6_000}
AT_ONCE = 1_000
"""Cases in a process."""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release of a tiny model, with golden vectors that it passes."""
    from cigpose_runtime.estimation.ort import ort

    folder = tmp_path_factory.mktemp("tiny") / "release"
    vectors = folder / "golden" / "tiny" / "test_data_set_0"
    vectors.mkdir(parents=True)
    (folder / "tiny.onnx").write_bytes(tiny_model().SerializeToString())
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 6), dtype=np.float32)
    x, y = ort.InferenceSession(folder / "tiny.onnx").run(["simcc_x", "simcc_y"], {"input": image})
    for name, array in (("input_0", image), ("output_0", x), ("output_1", y)):
        content = numpy_helper.from_array(array, name).SerializeToString()
        (vectors / f"{name}.pb").write_bytes(content)
    bins = np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(float)
    bins[np.minimum(x.max(-1), y.max(-1)) <= 0] = -1
    one = {
        "folder": vectors.name,
        "cases": ["noise"],
        "tolerances": {"simcc_x": 1e-5, "simcc_y": 1e-5},
        "keypoints": (bins / 2).tolist(),
        "near_ties": np.zeros(x.shape[:2], bool).tolist(),
    }
    digest = file_sha256(folder / "tiny.onnx")
    document = {"schema_version": 1, "model": "tiny", "sha256": digest, "sets": [one]}
    (vectors.parent / "golden.json").write_text(json.dumps(document))
    files = [
        ReleasedFile(path.relative_to(folder).as_posix(), path.stat().st_size, file_sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    text = {"version": "1.2.3", "lock_sha256": "", "commit": ""}
    manifest = Manifest(
        rehearsal=True,
        files=tuple(files),
        models={"tiny": "tiny.onnx"},
        sources={},
        tools={},
        **text,
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    (folder / SUMS).write_text(sums_of(folder, manifest))
    assert main(["check", str(folder)]) == 0
    return folder


def fuzz(kind, release, first, count):
    """What came of the cases; a process that ends by itself has no case over its limits."""
    import release_fuzz  # which not every system could
    from fuzzing import report_of

    return report_of(
        release_fuzz.__file__,
        *(kind, release, first, count),
        count=count,
        where=lambda: f"{kind} from {first} on",
    )


@pytest.mark.parametrize("kind", CASES)
def test_some_hundred_hostile_releases(release, kind):
    report = fuzz(kind, release, 0, CASES[kind])
    assert {"0", "1"} <= set(report["statuses"])  # and not all are refused for one reason


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", MANY)
def test_thousands_of_hostile_releases(release, kind, record_property):
    reports = [fuzz(kind, release, first, AT_ONCE) for first in range(0, MANY[kind], AT_ONCE)]
    slowest = max(report["cpu_s"] for report in reports)
    peak = max(report["peak"] for report in reports)
    passed = sum(report["statuses"].get("0", 0) for report in reports)
    figure = f"{kind}: {MANY[kind]:,} cases, {passed:,} pass, at most {slowest:.1f} CPU s and "
    record_property("figure", figure + f"{peak / 1e6:.0f} MB")
