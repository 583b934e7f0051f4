"""Whatever a checkpoint holds, loading it ends in weights or in one line."""

import sys
from collections import Counter

import pytest

if sys.platform != "linux":
    pytest.skip("the limits are Linux's", allow_module_level=True)

import checkpoint_fuzz
from fuzzing import report_of

FEW = {"bytes": 200, "pickles": 200, "weights": 40, "configs": 40}
MANY = {"bytes": 5_000, "pickles": 4_000, "weights": 1_500, "configs": 1_500}
READ = {
    "bytes": "legacy is read",
    "pickles": "a pickle is read",
    "weights": "weights are taken",
    "configs": "the same",
}
REFUSED = dict.fromkeys(READ, "CheckpointError") | {"configs": "ConfigMismatchError"}
AT_ONCE = 500


def fuzz(kind, first, count, folder):
    """What came of the cases; a process that ends by itself has no case over its limits."""
    seed = folder / "seed"
    return report_of(
        checkpoint_fuzz.__file__,
        *(kind, seed, first, count),
        count=count,
        where=lambda: f"{kind} {seed.read_text()}",
    )


@pytest.mark.parametrize("kind", FEW)
def test_some_hostile_checkpoints(kind, tmp_path):
    statuses = fuzz(kind, 0, FEW[kind], tmp_path)["statuses"]
    assert statuses[REFUSED[kind]] > FEW[kind] / 10
    assert statuses[READ[kind]] > 0  # not all is refused


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", MANY)
def test_12_000_hostile_checkpoints(kind, tmp_path, record_property):
    reports = [fuzz(kind, at, AT_ONCE, tmp_path) for at in range(0, MANY[kind], AT_ONCE)]
    statuses = sum((Counter(report["statuses"]) for report in reports), Counter())
    slowest = max(report["cpu_s"] for report in reports)
    peak = max(report["peak"] for report in reports)
    record_property(
        "figure",
        f"{kind} of checkpoints: {MANY[kind]:,} cases, {dict(statuses)}, at most "
        f"{slowest:.1f} CPU s, {peak / 1e6:.0f} MB",
    )
