"""Ctrl-C at the one moment at which a test from outside hardly ever meets it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cigpose_export.workers import Workers


def test_ctrl_c_while_jobs_are_handed_out_is_not_lost(monkeypatch):
    submit, done = ThreadPoolExecutor.submit, []

    def interrupted(pool, *args):
        submit(pool, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    workers = Workers()
    with pytest.raises(KeyboardInterrupt):
        workers.map(done.append, [1], jobs=1)
    assert workers.stopped
