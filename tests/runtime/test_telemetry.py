"""onnxruntime reports nothing to its maker unless the user wants it to.

Its telemetry leaves a device id and a queue in the user's cache as soon as it is imported: files
show whether it is on, without a network.
"""

import os
import subprocess
import sys

import pytest

from tiny_onnx import tiny_model

OPEN = "import sys; from cigpose_runtime import PoseModel; PoseModel(sys.argv[1])"
CHOSEN = """
import os
from cigpose_runtime.estimation.ort import ort
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


def run(code, home, *arguments, **environment):
    """Runs code as a user whose home is this folder; returns what it prints."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env={**kept, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_opening_a_model_leaves_nothing_in_the_users_home(tmp_path):
    model, home = tmp_path / "tiny.onnx", tmp_path / "home"
    model.write_bytes(tiny_model().SerializeToString())
    home.mkdir()
    run(OPEN, home, model)
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(("chosen", "stands"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_what_the_user_chose_stands(tmp_path, chosen, stands):
    assert run(CHOSEN, tmp_path, **chosen).strip() == stands
