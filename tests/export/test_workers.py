"""Ctrl-C at the one moment at which a test from outside hardly ever meets it."""

from concurrent.futures import ThreadPoolExecutor

from cigpose_export.errors import WorkError
from cigpose_export.jobs.processes import WorkerProcesses


def test_ctrl_c_while_jobs_are_handed_out_is_not_lost(monkeypatch):
    submit, submitted = ThreadPoolExecutor.submit, []

    def interrupted(pool, *args):
        future = submit(pool, *args)
        submitted.append(future)
        if len(submitted) == 2:
            raise KeyboardInterrupt
        return future

    workers = WorkerProcesses()

    def job(item):
        try:
            workers.require_going_on(item)
        except WorkError:
            return "interrupted"
        return "done"

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    results = workers.map(job, ["a", "b", "c"], jobs=1)
    assert len(results) == 3
    assert results[1:] == ["interrupted", "interrupted"]
