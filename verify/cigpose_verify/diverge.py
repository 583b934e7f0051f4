"""Which node? The first intermediate tensor of a graph that leaves what PyTorch computes.

The exporter keeps PyTorch's names for most values of the graph, so that each can be compared with
the tensor of the same name that PyTorch recorded (`Trace`).
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cigpose_runtime.errors import FileError
from cigpose_runtime.estimation.session import CPU
from cigpose_runtime.files import appears_whole, open_file
from cigpose_verify.matrix import Setting, run
from cigpose_verify.measures.tolerances import RELATIVE_TOLERANCE, SCALE_QUANTILE, max_difference
from cigpose_verify.report.document import Divergence, TensorError, figure
from cigpose_verify.stages.choice import exposed

SAMPLE = 1 << 17
"""At most this many elements of a tensor are recorded and compared, evenly spread over it."""


@dataclass(frozen=True)
class Traced:
    """One tensor of PyTorch's run: its name, the module that made it, and a sample of it."""

    name: str
    module: str
    shape: tuple[int, ...]
    sample: NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """The intermediate tensors of one case, run by itself."""

    case: str
    input: NDArray[np.float32]
    tensors: tuple[Traced, ...]

    def write(self, path: Path) -> None:
        """Writes the trace as a whole or not at all."""
        document = {
            "case": self.case,
            "tensors": [[t.name, t.module, list(t.shape)] for t in self.tensors],
        }
        samples: dict[str, Any] = {
            f"tensor_{index}": t.sample for index, t in enumerate(self.tensors)
        }
        with appears_whole(path) as file:
            np.savez(file, document=np.array(json.dumps(document)), input=self.input, **samples)

    @classmethod
    def read(cls, path: Path) -> Trace:
        """Raises `FileError` for a file that no `write` made."""
        with open_file(path, "a trace") as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    document = json.loads(str(arrays["document"]))
                    tensors = tuple(
                        Traced(name, module, tuple(shape), arrays[f"tensor_{index}"])
                        for index, (name, module, shape) in enumerate(document["tensors"])
                    )
                    return cls(document["case"], arrays["input"], tensors)
            except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
                raise FileError(
                    f"{path}: expected a trace, found a damaged or foreign file ({error}); "
                    "delete it, and the next verify records it anew"
                ) from error


def sample_of(tensor: NDArray[np.floating]) -> NDArray[np.float32]:
    """At most SAMPLE elements, evenly spread; the step is odd, so that no column is left out."""
    step = -(-tensor.size // SAMPLE)
    flat: NDArray[np.float32] = np.ravel(tensor)[:: step | 1].astype(np.float32)
    return flat


def find_divergence(data: bytes, trace: Trace) -> Divergence:
    """Compares the tensors of a graph with those of the same name in a trace, in graph order.

    A tensor may be off by RELATIVE_TOLERANCE of its own scale (measured on sound
    files: at most 2e-5).
    """
    model = onnx.load_from_string(data)
    traced = {tensor.name: tensor for tensor in trace.tensors}
    made = [
        (output, node)
        for node in model.graph.node
        for output in node.output
        if output in traced and traced[output].sample.size
    ]
    names = [output for output, _ in made]
    session = Setting(CPU, "disabled", 1).open(exposed(model, names))
    found = dict(zip(names, run(session, names, {"input": trace.input}), strict=True))
    errors = []
    for name, node in made:
        tensor, output = traced[name], found[name]
        scale = float(np.quantile(np.abs(tensor.sample), SCALE_QUANTILE))
        same_form = output.shape == tensor.shape
        errors.append(
            TensorError(
                tensor=name,
                node=node.name,
                op_type=node.op_type,
                module=tensor.module,
                error=figure(
                    max_difference(sample_of(output), tensor.sample) if same_form else np.inf
                ),
                tolerance=RELATIVE_TOLERANCE * scale,
            )
        )
    first = next((e for e in errors if e.error is None or e.error > e.tolerance), None)
    return Divergence(trace.case, first, tuple(errors))
