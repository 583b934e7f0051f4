"""Golden vectors: inputs and PyTorch's outputs, in a form that any ONNX runtime can replay.

The form is that of ONNX's backend tests, test_data_set_N/input_0.pb and output_N.pb (TensorProto),
beside golden.json: tolerances and decoded keypoints.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from cigpose_runtime.estimation.decode import decode_simcc
from cigpose_runtime.model_file.contract import Precision
from cigpose_runtime.releases.golden import largest_tolerance
from cigpose_verify.measures.tolerances import SOUND_CONDITION
from cigpose_verify.reference_record import Recorded, ReferenceRecord
from cigpose_verify.stages.intervention import gap

SCHEMA_VERSION = 1


def write_golden(
    record: ReferenceRecord,
    sha256: str,
    folder: Path,
    precision: Precision = "fp32",
    batch: int | None = None,
) -> None:
    """Writes three sets into `folder`, replacing what is there: noise, a crop, a batch of three.

    sha256, precision: of the file that passed. batch: of a file that takes no other; each set then
    has so many cases. A replay is not to depend on rounding: of the cases
    that are beyond doubt (`SOUND_CONDITION`) those are taken in which the intervention is clearest,
    and others, the best-conditioned first, only where there are too few of them. Their tolerances
    are those of well-conditioned inputs: whoever replays them takes no larger ones.
    """
    k = len(record.cases[0].own.choice)
    clearest = sorted(record.cases, key=lambda recorded: -gap(recorded.scores, k))
    noise = sorted((r for r in clearest if r.case.kind == "noise"), key=_doubt)
    crops = sorted((r for r in clearest if r.case.kind == "crop"), key=_doubt)
    others = sorted([*crops[1:], *noise[2:]], key=_doubt)
    sets = [[noise[0]], [crops[0]], [noise[1], *others[:2]]]
    if batch is not None:
        sets = [list(islice(cycle([*members, *others]), batch)) for members in sets]
    with replaced(folder) as made:
        documents = [
            _write_set(made / f"test_data_set_{index}", members, record, precision)
            for index, members in enumerate(sets)
        ]
        write_document(made, str(record.contract.name), sha256, documents)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` at the end of the block."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / "golden"
        made.mkdir()
        yield made
        if folder.exists():  # a rename replaces no folder: the old one steps aside
            folder.rename(Path(temporary) / "old")
        made.rename(folder)


def write_document(folder: Path, model: str, sha256: str, sets: list[dict[str, Any]]) -> None:
    """Writes golden.json. sha256: of the model's file."""
    document = {"schema_version": SCHEMA_VERSION, "model": model, "sha256": sha256, "sets": sets}
    (folder / "golden.json").write_text(json.dumps(document, indent=1), "utf-8")


def write_tensors(
    folder: Path,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
) -> None:
    """Writes input_N.pb and output_N.pb into a new folder, the arrays by name in their order."""
    folder.mkdir()
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for index, (name, array) in enumerate(arrays.items()):
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
            data = tensor.SerializeToString(deterministic=True)
            (folder / f"{kind}_{index}.pb").write_bytes(data)


def _doubt(recorded: Recorded) -> float:
    """How ill-conditioned a case is; the same of all that are beyond doubt."""
    return max(recorded.own.condition, SOUND_CONDITION)


def _write_set(
    folder: Path, members: Sequence[Recorded], record: ReferenceRecord, precision: Precision
) -> dict[str, Any]:
    simcc_x = np.stack([m.own.single.simcc_x for m in members])
    simcc_y = np.stack([m.own.single.simcc_y for m in members])
    image = np.stack([m.case.input for m in members])
    write_tensors(folder, {"input": image}, {"simcc_x": simcc_x, "simcc_y": simcc_y})
    keypoints, scores = decode_simcc(simcc_x, simcc_y, record.contract.split_ratio)
    near = [
        m.own.clarity.near_ties(m.own.limit) if precision == "fp32" else ~m.own.clarity.clearer_half
        for m in members
    ]
    return {
        "folder": folder.name,
        "cases": [m.case.name for m in members],
        "tolerances": {
            "simcc_x": largest_tolerance(simcc_x, precision),
            "simcc_y": largest_tolerance(simcc_y, precision),
        },
        "keypoints": keypoints.tolist(),
        "scores": [[float(f"{s:.6g}") for s in row] for row in scores.tolist()],
        "near_ties": [ties.tolist() for ties in near],
    }
