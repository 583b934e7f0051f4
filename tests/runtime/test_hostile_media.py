"""Damaged pictures and videos: no traceback, no crash, no hang, and memory within limits."""

import pytest

pytest.importorskip("resource", reason="the platform has no such limits")

from media_fuzz import MEMORY, campaign


def check(kind, count, folder, record_property):
    found = campaign(kind, folder, count)
    outcomes = ", ".join(
        f"{number} {outcome}" for outcome, number in sorted(found.outcomes.items())
    )
    figure = f"{count} damaged {kind}: {outcomes}; at most {found.most_memory >> 20} MB"
    record_property("figure", figure)
    assert found.wrong == []
    assert found.most_memory <= MEMORY
    assert found.outcomes["read"] > count / 20  # the damage is not so great that all stop at once
    assert found.outcomes["refused"] > count / 20


@pytest.mark.parametrize(("kind", "count"), [("pictures", 400), ("videos", 200)])
def test_damage_is_one_line_or_does_not_matter(kind, count, tmp_path, record_property):
    check(kind, count, tmp_path, record_property)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("kind", "count"), [("pictures", 40_000), ("videos", 20_000)])
def test_the_same_of_very_many(kind, count, tmp_path, record_property):
    check(kind, count, tmp_path, record_property)
