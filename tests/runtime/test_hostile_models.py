"""Whatever a model file holds, opening and running it ends in a result or in one line."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the limits are Linux's", allow_module_level=True)

import model_fuzz
from fuzzing import fuzz, fuzz_many

FEW = {"bytes": 150, "graphs": 100, "metadata": 150}
MANY = {"bytes": 25_000, "graphs": 5_000, "metadata": 20_000}
AT_ONCE = 1_000


@pytest.mark.parametrize("kind", FEW)
def test_some_hundred_hostile_models(kind, tmp_path):
    statuses = fuzz(model_fuzz.__file__, kind, 0, FEW[kind], tmp_path)["statuses"]
    assert "OnnxFileError" in statuses or "MetadataError" in statuses
    assert "runs" in statuses  # not all is refused


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", MANY)
def test_50_000_hostile_models(kind, tmp_path, record_property):
    found = fuzz_many(model_fuzz.__file__, kind, MANY[kind], tmp_path, at_once=AT_ONCE)
    record_property("figure", f"{kind} of models: {found}")
