"""Whatever a checkpoint holds, loading it ends in weights or in one line."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the limits are Linux's", allow_module_level=True)

import checkpoint_fuzz
from fuzzing import fuzz, fuzz_many

FEW = {"bytes": 100, "pickles": 100, "weights": 20, "configs": 20}
MANY = {"bytes": 5_000, "pickles": 4_000, "weights": 1_500, "configs": 1_500}
READ = {
    "bytes": "legacy is read",
    "pickles": "a pickle is read",
    "weights": "weights are taken",
    "configs": "the same",
}
REFUSED = dict.fromkeys(READ, "CheckpointError") | {"configs": "ConfigMismatchError"}
AT_ONCE = 500


@pytest.mark.parametrize("kind", FEW)
def test_some_hostile_checkpoints(kind, tmp_path):
    statuses = fuzz(checkpoint_fuzz.__file__, kind, 0, FEW[kind], tmp_path)["statuses"]
    assert statuses[REFUSED[kind]] > FEW[kind] / 10
    assert statuses[READ[kind]] > 0  # not all is refused


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", MANY)
def test_12_000_hostile_checkpoints(kind, tmp_path, record_property):
    found = fuzz_many(checkpoint_fuzz.__file__, kind, MANY[kind], tmp_path, at_once=AT_ONCE)
    record_property("figure", f"{kind} of checkpoints: {found}")
