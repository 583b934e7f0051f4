"""Whatever a model file holds, opening and running it ends in a result or in one line."""

import sys
from collections import Counter

import pytest

if sys.platform != "linux":
    pytest.skip("the limits are Linux's", allow_module_level=True)

import model_fuzz
from fuzzing import report_of

FEW = {"bytes": 150, "graphs": 100, "metadata": 150}
MANY = {"bytes": 25_000, "graphs": 5_000, "metadata": 20_000}
AT_ONCE = 1_000


def fuzz(kind, first, count, folder):
    """What came of the cases; a process that ends by itself has no case over its limits."""
    seed = folder / "seed"
    return report_of(
        model_fuzz.__file__,
        *(kind, seed, first, count),
        count=count,
        where=lambda: f"{kind} {seed.read_text()}",
    )


@pytest.mark.parametrize("kind", FEW)
def test_some_hundred_hostile_models(kind, tmp_path):
    statuses = fuzz(kind, 0, FEW[kind], tmp_path)["statuses"]
    assert "OnnxFileError" in statuses or "MetadataError" in statuses
    assert "runs" in statuses  # not all is refused


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", MANY)
def test_50_000_hostile_models(kind, tmp_path, record_property):
    reports = [fuzz(kind, at, AT_ONCE, tmp_path) for at in range(0, MANY[kind], AT_ONCE)]
    statuses = sum((Counter(report["statuses"]) for report in reports), Counter())
    slowest = max(report["cpu_s"] for report in reports)
    peak = max(report["peak"] for report in reports)
    record_property(
        "figure",
        f"{kind} of models: {MANY[kind]:,} cases, {dict(statuses)}, at most {slowest:.1f} CPU s, "
        f"{peak / 1e6:.0f} MB",
    )
