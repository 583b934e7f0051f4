"""Settings that all tests share; it also puts this folder, and so tiny_onnx, on the import path."""

import signal

import pytest
from hypothesis import settings

# Same examples in every run and no time limit per example: a failure is never the machine's mood.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")

# A shell's background jobs ignore Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """Tests have a user's cache of their own: they find nothing there, and leave nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_terminal_summary(terminalreporter):
    """Shows which stage caught each seeded fault, and by how much."""
    passed = terminalreporter.stats.get("passed", [])
    properties = [pair for report in passed for pair in report.user_properties]
    for figure in sorted(value for key, value in properties if key == "figure"):
        terminalreporter.write_line(figure)
    faults = [value for key, value in properties if key == "fault"]
    if faults:
        terminalreporter.section("seeded faults: fault | stage that caught it | figure")
        for line in sorted(faults):
            terminalreporter.write_line(line)
