"""Runs onnxsim in a process of its own, where a crash or a hang cannot take the export down."""

from __future__ import annotations

import os
import subprocess
import sys

import onnx

from cigpose_export.errors import ExportError
from cigpose_runtime.errors import last_line

TIMEOUT_S = 600
"""Over 100 times what the largest model takes."""

CHECK_TOLERANCE = 1e-4
"""Of onnxsim's own numeric check, relative and absolute. It compares float32 with float32; what
parity allows is decided later, against PyTorch."""

SKIPPED_PASSES = ["fuse_matmul_add_bias_into_gemm_batched"]
"""It turns MatMul and Add on (B,K,C) into Reshape, Gemm and Reshape: more nodes, no faster."""


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplifies a graph; raises `ExportError` when onnxsim fails, hangs or changes the outputs."""
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "cigpose_export.graph.simplify"],
            input=model.SerializeToString(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ExportError(f"onnxsim did not finish within {TIMEOUT_S} s; run it again") from None
    if child.returncode != 0:
        complaint = last_line(child.stderr.decode(errors="replace"))
        raise ExportError(
            f"onnxsim ended with status {child.returncode} ({complaint}); "
            "compare its version with the lock (make doctor)"
        )
    return onnx.load_from_string(child.stdout)


def _simplify_stdin() -> None:
    """The child's side: a model on stdin, the simplified one on stdout."""
    result = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what onnxsim prints is no model

    import numpy as np
    import onnxsim

    model = onnx.load_from_string(sys.stdin.buffer.read())
    batch, *size = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    feed = np.random.default_rng(0).standard_normal((batch or 2, *size), dtype=np.float32)
    simplified, agrees = onnxsim.simplify(
        model,
        check_n=1,
        input_data={"input": feed},
        check_rtol=CHECK_TOLERANCE,
        check_atol=CHECK_TOLERANCE,
        skipped_optimizers=SKIPPED_PASSES,
    )
    if not agrees:
        sys.exit("the simplified graph computes something else")
    result.write(simplified.SerializeToString())
    result.close()


if __name__ == "__main__":
    _simplify_stdin()
