"""Is the file a well-formed, self-contained graph of standard operators?"""

from __future__ import annotations

import onnx

from cigpose_runtime.errors import first_line
from cigpose_runtime.model_file.onnx_graph import OnnxFile

FORBIDDEN_OPS = frozenset({"NonZero", "GatherND", "Scatter", "ScatterElements", "ScatterND"})
"""Data-dependent shapes and scatter: slow or unsupported on most backends."""

MAX_NODES = 550
"""The largest model, RTMW-x, has 496 nodes, the largest CIGPose 442 (make bench); where something
is unrolled, as in a straight trace of the smallest one, there are over 1800."""

BETWEEN_TYPES = ("Cast", "QuantizeLinear", "DequantizeLinear")
"""Not counted: weights in float16 have a cast each, and values in 8 bits come and go in pairs."""


def check_structure(
    data: bytes, described: OnnxFile, *, most_nodes: int | None = MAX_NODES
) -> list[str]:
    """The problems of a model in the bytes of its file, none if it is well formed.

    most_nodes: None for a file that holds a detector, which may be of any size.
    `described` is what `cigpose_runtime.parse_onnx` reads from the same bytes; it has refused
    external data, control flow, functions and damaged files already.
    """
    problems = []
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        problems.append(f"onnx.checker refuses the model ({first_line(error)})")
    forbidden = sorted(FORBIDDEN_OPS & set(described.op_counts))
    if forbidden:
        problems.append(
            f"expected no {', '.join(sorted(FORBIDDEN_OPS))}, found {', '.join(forbidden)}"
        )
    between = sum(described.op_counts.get(name, 0) for name in BETWEEN_TYPES)
    count = described.node_count - between
    if most_nodes is not None and count > most_nodes:
        problems.append(
            f"expected at most {most_nodes} nodes beside casts and quantisation, found {count}"
        )
    if others := [name for name in described.op_counts if "." in name]:
        problems.append(f"expected operators of ONNX alone, found {', '.join(others)}")
    return problems
