"""What PyTorch answered: the file that the reference side writes and the verifier reads.

With it a verdict can be repeated without PyTorch. It is one .npz of plain arrays and a JSON
document; nothing in it is executed when it is read.

The intervention inside the graph chooses k keypoints of each person. Where other choices are within
rounding, the record holds the outputs for each of them (`Candidate`), so that a backend that
rightly chose otherwise is compared with what PyTorch computes for that choice.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigpose_runtime import Contract
from cigpose_runtime.arrays import Floats
from cigpose_runtime.errors import FileError, first_line
from cigpose_runtime.files import appears_whole, open_file
from cigpose_verify.cases import Case
from cigpose_verify.measures.keypoints import Bools, Clarity, Readout
from cigpose_verify.measures.tolerances import (
    SOUND_CONDITION,
    WORST_CONDITION,
    condition_of,
    least_cosine,
    max_difference,
    precision_limit,
    reduced_limit,
    tolerance_of,
)

Doubles = NDArray[np.float64]

SCHEMA_VERSION = 2

CHECKPOINT_NOTE = "checkpoint_note"
"""Key in a record's origin: what of the checkpoint's own config could not be compared."""


@dataclass(frozen=True)
class Outputs:
    """`simcc_x` (K,W) and `simcc_y` (K,H) of one person, or a batch of them."""

    simcc_x: NDArray[Any]
    simcc_y: NDArray[Any]

    @property
    def vectors(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both, in the order of the model's outputs."""
        return self.simcc_x, self.simcc_y

    def row(self, index: int) -> Outputs:
        """One person's of a batch."""
        return Outputs(self.simcc_x[index], self.simcc_y[index])

    def errors(self, other: Outputs) -> list[float]:
        """max|difference| from other outputs of this shape, of each vector."""
        return [max_difference(a, b) for a, b in zip(self.vectors, other.vectors, strict=True)]


@dataclass(frozen=True)
class Candidate:
    """A choice of the intervention, keypoint indices in ascending order, and what follows from it.

    single, double: the outputs that PyTorch computes for it in float32 and in float64. floor: the
    largest error against float64 of several float32 evaluations, of which `single` is one.
    """

    choice: tuple[int, ...]
    single: Outputs
    double: Outputs
    floor: float

    @cached_property
    def tolerances(self) -> tuple[float, float]:
        """What `simcc_x` and `simcc_y` may be off by, from the parity gate."""
        x, y = (tolerance_of(vector, self.floor) for vector in self.single.vectors)
        return x, y

    @cached_property
    def least_cosine(self) -> float:
        """What the parity gate asks of the cosine of both."""
        return min(least_cosine(vector, self.floor) for vector in self.single.vectors)

    @property
    def limit(self) -> float:
        """What a backend may be off by against float64, from the precision gate."""
        return precision_limit(self.floor)

    @cached_property
    def condition(self) -> float:
        """The noise floor as a share of the outputs: of the worse of the two vectors."""
        return max(condition_of(vector, self.floor) for vector in self.double.vectors)

    @cached_property
    def said(self) -> Readout:
        """The keypoints of the float32 outputs."""
        return Readout.of(self.single.simcc_x, self.single.simcc_y)

    @cached_property
    def clarity(self) -> Clarity:
        """How clear the float64 outputs are about theirs."""
        return Clarity.of(self.double.simcc_x, self.double.simcc_y)


@dataclass(frozen=True)
class Recorded:
    """All that was recorded of one case.

    scores: confound score of each keypoint, (K,) float64. score_floor: the largest error of the
    scores of several float32 evaluations. The first candidate is the float64 reference's own
    choice.
    """

    case: Case
    scores: Doubles
    score_floor: float
    candidates: tuple[Candidate, ...]

    @property
    def own(self) -> Candidate:
        """What the reference answers by itself."""
        return self.candidates[0]

    @property
    def is_sound(self) -> bool:
        """Whether the tolerance of the parity gate covers all that rounding explains."""
        return all(c.condition <= SOUND_CONDITION for c in self.candidates)

    @property
    def clear(self) -> Bools:
        """Which keypoints (K,) a file in reduced precision has to place as float64 does.

        On a sound case the clearer half; on another, where half of them may lead by less than
        float16 rounds, those that lead by more than the precision gate explains. Measured on all
        14, synthetic weights, fp16 and w16: the clearest keypoint that is elsewhere leads by 0.87
        of the median of its person on 388 sound cases, by 2.0 on the 60 others.
        """
        if self.is_sound:
            return self.own.clarity.clearer_half
        return ~self.own.clarity.near_ties(reduced_limit(self.own.floor))

    @property
    def is_ill_conditioned(self) -> bool:
        """Whether rounding alone moves the outputs so far that many keypoints may be elsewhere."""
        return not all(c.condition <= WORST_CONDITION for c in self.candidates)


@dataclass(frozen=True)
class Sweep:
    """The head with each keypoint in turn replaced, on the features (K,C) of one case.

    Row j of `single` and `double` is keypoint j's own row of the outputs where the intervention is
    made to choose `choices[j]`, which holds j: all canonical features take part once. floor: the
    largest error of several float32 evaluations against `double`.
    """

    features: Floats
    choices: NDArray[np.int64]
    single: Outputs
    double: Outputs
    floor: float


@dataclass(frozen=True)
class ReferenceRecord:
    """The PyTorch side of one model.

    contract: what the config and the checkpoint say; without the tools that made a file.
    origin: where it comes from: head, checkpoint hash, versions. sweep: None for a head without
    intervention, whose cases have no scores and one candidate each, of no choice.
    """

    contract: Contract
    origin: Mapping[str, str]
    cases: tuple[Recorded, ...]
    sweep: Sweep | None

    @property
    def inputs(self) -> Floats:
        """Of all cases, (N,3,h,w)."""
        return np.stack([recorded.case.input for recorded in self.cases])

    def write(self, path: Path) -> None:
        """Writes the record as a whole or not at all."""
        candidates = [c for recorded in self.cases for c in recorded.candidates]
        arrays: dict[str, Any] = {
            "inputs": self.inputs,
            "scores": np.stack([r.scores for r in self.cases]),
            "score_floors": np.array([r.score_floor for r in self.cases]),
            "counts": np.array([len(r.candidates) for r in self.cases]),
            "choices": np.array([c.choice for c in candidates], np.int64),
            "floors": np.array([c.floor for c in candidates]),
        }
        for axis in ("simcc_x", "simcc_y"):
            for kind in ("single", "double"):
                outputs = [getattr(getattr(c, kind), axis) for c in candidates]
                arrays[f"{axis}_{kind}"] = np.stack(outputs)
                if self.sweep is not None:
                    arrays[f"swept_{axis}_{kind}"] = getattr(getattr(self.sweep, kind), axis)
        if self.sweep is not None:
            arrays |= {
                "features": self.sweep.features,
                "swept": self.sweep.choices,
                "swept_floor": np.array(self.sweep.floor),
            }
        document = {
            "schema_version": SCHEMA_VERSION,
            "contract": self.contract.to_json(),
            "origin": dict(self.origin),
            "cases": [_document_of(r.case) for r in self.cases],
        }
        with appears_whole(path) as file:
            np.savez(file, document=np.array(json.dumps(document)), **arrays)

    @classmethod
    def read(cls, path: Path) -> ReferenceRecord:
        """Raises `FileError` for a file that no `write` made, a damaged or an altered one."""
        with open_file(path, "a reference record") as file:
            try:
                _require_plain(zipfile.ZipFile(file))
                with np.load(file, allow_pickle=False) as arrays:
                    return cls._from_arrays(arrays)
            except Exception as error:
                raise FileError(
                    f"{path}: expected a reference record, found a damaged or foreign file "
                    f"({first_line(error)}); delete it, and the next verify records it anew"
                ) from error

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ReferenceRecord:
        document = json.loads(str(arrays["document"]))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {document['schema_version']}")
        data = {name: arrays[name] for name in arrays if name != "document"}
        contract = Contract.from_json(document["contract"])
        _require_shapes(data, contract)
        single, double = _outputs_of(data)
        candidates = [
            Candidate(tuple(choice), single.row(row), double.row(row), float(data["floors"][row]))
            for row, choice in enumerate(data["choices"].tolist())
        ]
        ends = np.cumsum(data["counts"]).tolist()
        cases = []
        for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            fields = document["cases"][index]
            sha256 = fields.pop("sha256")
            case = Case(input=data["inputs"][index], **_tuples(fields))
            if case.sha256 != sha256:
                raise ValueError(f"the input of case {case.name!r} does not have its hash")
            scores, score_floor = data["scores"][index], float(data["score_floors"][index])
            cases.append(Recorded(case, scores, score_floor, tuple(candidates[start:end])))
        sweep = None
        if "swept" in data:
            floor = float(data["swept_floor"])
            sweep = Sweep(data["features"], data["swept"], *_outputs_of(data, "swept_"), floor)
        origin = {str(key): str(value) for key, value in document["origin"].items()}
        return cls(contract, origin, tuple(cases), sweep)


def _outputs_of(data: Mapping[str, NDArray[Any]], prefix: str = "") -> tuple[Outputs, Outputs]:
    """The recorded float32 outputs and the float64 ones."""
    single, double = (
        Outputs(data[f"{prefix}simcc_x_{kind}"], data[f"{prefix}simcc_y_{kind}"])
        for kind in ("single", "double")
    )
    return single, double


def _require_plain(archive: zipfile.ZipFile) -> None:
    """Raises ValueError for members that take more memory than the file that they come in."""
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} is compressed")


def _require_shapes(data: Mapping[str, NDArray[Any]], contract: Contract) -> None:
    """Raises ValueError unless all arrays are those of some cases of a model of this contract."""
    k, sizes = contract.num_keypoints, (contract.input_w, contract.input_h)
    cases, candidates, chosen = len(data["inputs"]), len(data["choices"]), data["choices"].shape[-1]
    is_swept = "swept" in data
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "inputs": ("float32", (cases, 3, contract.input_h, contract.input_w)),
        "scores": ("float64", (cases, k if is_swept else 0)),
        "score_floors": ("float64", (cases,)),
        "counts": ("int64", (cases,)),
        "floors": ("float64", (candidates,)),
        "choices": ("int64", (candidates, chosen if is_swept else 0)),
    }
    if is_swept:
        swept, channels = len(data["swept"]), data["features"].shape[-1]
        expected["features"] = "float32", (k, channels)
        expected["swept"] = "int64", (swept, chosen)
        expected["swept_floor"] = "float64", ()
    for axis, size in zip(("simcc_x", "simcc_y"), sizes, strict=True):
        bins = int(size * contract.split_ratio)
        for kind, dtype in (("single", "float32"), ("double", "float64")):
            expected[f"{axis}_{kind}"] = dtype, (candidates, k, bins)
            if is_swept:
                expected[f"swept_{axis}_{kind}"] = dtype, (swept, bins)
    for name, wanted in expected.items():
        if (data[name].dtype.name, data[name].shape) != wanted:
            raise ValueError(f"{name} is {data[name].dtype} {data[name].shape}")
        if not np.isfinite(data[name]).all():
            raise ValueError(f"{name} is not finite")
    for name in {"floors", "score_floors", "swept_floor"} & set(data):
        if (data[name] < 0).any():
            raise ValueError(f"{name} is negative")
    for name in {"choices", "swept"} & set(data):
        if not ((data[name] >= 0) & (data[name] < k)).all():
            raise ValueError(f"{name} of a keypoint that is none")
    if cases == 0 or (data["counts"] < 1).any() or data["counts"].sum() != candidates:
        raise ValueError("counts are not those of the candidates")


def _document_of(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "kind": case.kind,
        "sha256": case.sha256,
        "source": case.source,
        "box_xyxy": case.box_xyxy,
        "center": case.center,
        "scale": case.scale,
    }


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
