"""What onnxruntime says that phones would take: its own checker for NNAPI and CoreML."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cigpose_export.errors import ExportError
from cigpose_runtime.errors import last_line

TAKEN = re.compile(r"(\d+) partitions? with a total of (\d+/\d+) nodes .* handled by the (.*) EP")


def check_mobile(model: Path) -> dict[str, str]:
    """For each of the checker's targets, how many nodes it takes, in how many pieces.

    model: with a fixed batch; of a free one the checker takes nothing.
    """
    tool = "onnxruntime.tools.check_onnx_model_mobile_usability"
    command = [sys.executable, "-P", "-m", tool, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = TAKEN.findall(done.stdout + done.stderr)
    if not taken:
        raise ExportError(
            f"{model.name}: expected onnxruntime's checker for phones to answer, found: "
            f"{last_line(done.stderr)}; run make doctor"
        )
    return {target: f"{nodes} in {pieces}" for pieces, nodes, target in taken}
