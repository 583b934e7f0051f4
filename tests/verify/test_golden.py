"""Which cases golden vectors are made of."""

import json
from dataclasses import replace

from cigpose_verify.golden import write_golden


def cases_of(record, folder):
    """The names of the cases in each set."""
    write_golden(record, "0" * 64, folder)
    document = json.loads((folder / "golden.json").read_text())
    return [one["cases"] for one in document["sets"]]


def test_a_case_on_which_rounding_is_in_doubt_is_not_replayed(tiny, tmp_path):
    names = [r.case.name for r in tiny.record.cases if r.case.kind == "crop"]
    (_, (clearest,), (_, *others)) = cases_of(tiny.record, tmp_path / "before")
    assert {clearest, *others} < set(names)
    sound = next(name for name in names if name not in (clearest, *others))
    cases = tuple(
        replace(r, candidates=(replace(r.own, floor=1e-3),))
        if r.case.name in names and r.case.name != sound
        else r
        for r in tiny.record.cases
    )
    (noise,), (crop,), batch = cases_of(replace(tiny.record, cases=cases), tmp_path / "after")
    assert crop == sound
    assert len({noise, *batch}) == 4
    assert all(name.startswith("noise") for name in (noise, *batch))
