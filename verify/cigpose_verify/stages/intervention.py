"""The discrete choice inside the graph: which keypoints the intervention replaces.

The shipped file does not tell; these functions make variants of the graph that do, or that take the
choice as an input. They are run here and never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cigpose_verify.errors import RunError
from cigpose_verify.matrix import Matrix, Setting, run, run_all
from cigpose_verify.measures.tolerances import max_difference, precision_limit
from cigpose_verify.reference_record import Outputs, Recorded, ReferenceRecord, Sweep
from cigpose_verify.report.document import Failure, InterventionResult, figure

SWEEP_BATCH = 16
"""Forced choices at once; bounds memory."""


@dataclass(frozen=True)
class Examined:
    """What the choice inside the graph did on all cases, at each optimisation level.

    slack: by how much the scores of a case, by its name, may be out of order for rounding alone.
    score_error and its limit are those of the case that takes the largest share of its limit.
    """

    failures: tuple[Failure, ...]
    slack: Mapping[str, float]
    score_error: float
    score_limit: float
    choices: int
    agreeing: int
    near_ties: int
    sweep_error: float
    sweep_limit: float

    def result(self, forced: int) -> InterventionResult:
        """For the report; `forced` outputs followed another choice than the reference's."""
        return InterventionResult(
            score_error=figure(self.score_error),
            score_limit=figure(self.score_limit),
            choices=self.choices,
            agreeing=self.agreeing,
            near_ties=self.near_ties,
            forced=forced,
            sweep_error=figure(self.sweep_error),
            sweep_limit=figure(self.sweep_limit),
        )


def examine(
    model: onnx.ModelProto,
    intervention: Intervention,
    record: ReferenceRecord,
    matrix: Matrix,
    limit: Callable[[float], float] = precision_limit,
) -> Examined:
    """Compares scores, choices and every single replacement with PyTorch's.

    On each provider and at each level of the matrix: the graph with score and index as outputs. On
    each provider: the part behind the intervention with each keypoint forced in turn. limit: what
    errors may be on an input of this noise floor. Raises `RunError` where the graph is
    not built in this way, `OnnxFileError` where it does not load.
    """
    sweep = record.sweep
    assert sweep is not None  # a model without intervention is not examined
    seen = list(_look(model, intervention, record, matrix))
    errors = {
        r.case.name: max(
            (max_difference(s.scores, r.scores) for s in seen if s.recorded is r), key=_nan_first
        )
        for r in record.cases
    }
    limits = {r.case.name: limit(r.score_floor) for r in record.cases}
    slack = {r.case.name: 2 * max(errors[r.case.name], r.score_floor) for r in record.cases}
    least_precise = max(
        record.cases, key=lambda r: _nan_first(errors[r.case.name] / limits[r.case.name])
    )
    score_error, score_limit = errors[least_precise.case.name], limits[least_precise.case.name]
    swept = [_sweep(model, intervention, sweep, matrix, p) for p in matrix.providers]
    sweep_error, keypoint = max(swept, key=lambda pair: _nan_first(pair[0]))
    sweep_limit = limit(sweep.floor)
    failures = []
    if not score_error <= score_limit:
        failures.append(
            Failure(
                "precision",
                f"{least_precise.case.name}: confound scores are off by {score_error:.2e} against "
                f"float64, PyTorch's own by up to {least_precise.score_floor:.2e}; expected at "
                f"most {score_limit:.2e}",
            )
        )
    wrong = [
        s for s in seen if not plausible(s.choice, s.recorded.scores, slack[s.recorded.case.name])
    ]
    if wrong:
        failures.append(
            Failure(
                "intervention",
                f"{wrong[0].recorded.case.name}: expected keypoints {wrong[0].recorded.own.choice} "
                f"to be replaced, found {wrong[0].choice}, though no error of the scores explains "
                f"it ({len(wrong)} of {len(seen)} choices)",
            )
        )
    if not sweep_error <= sweep_limit:
        name = record.contract.keypoint_names[keypoint]
        failures.append(
            Failure(
                "replacement",
                f"keypoint {keypoint} ({name}) replaced: its outputs are off by {sweep_error:.2e} "
                f"against float64; expected at most {sweep_limit:.2e}",
            )
        )
    k = len(record.cases[0].own.choice)
    return Examined(
        failures=tuple(failures),
        slack=slack,
        score_error=score_error,
        score_limit=score_limit,
        choices=len(seen),
        agreeing=sum(one.choice == one.recorded.own.choice for one in seen),
        near_ties=sum(gap(r.scores, k) <= slack[r.case.name] for r in record.cases),
        sweep_error=sweep_error,
        sweep_limit=sweep_limit,
    )


@dataclass(frozen=True)
class _Seen:
    """Scores (K,) and choice inside the graph for one case under one setting."""

    recorded: Recorded
    scores: NDArray[np.floating]
    choice: tuple[int, ...]


def _look(
    model: onnx.ModelProto, intervention: Intervention, record: ReferenceRecord, matrix: Matrix
) -> Iterator[_Seen]:
    inputs = {"input": record.inputs}
    data = exposed(model, (intervention.ranked, intervention.index))
    for provider in matrix.providers:
        for level in matrix.levels:
            session = Setting(provider, level, matrix.threads[-1]).open(data)
            for ran in run_all(session, inputs, max(matrix.batches)):
                ranked, index = (
                    ran.outputs[name] for name in (intervention.ranked, intervention.index)
                )
                expected = len(ran.cases), record.contract.num_keypoints
                if ranked.shape != expected or index.ndim != 2:
                    raise RunError(
                        f"expected confound scores {expected} and a row of indices a person, found "
                        f"{ranked.shape} and {index.shape}"
                    )
                scores = _confound(ranked, np.stack([record.cases[i].scores for i in ran.cases]))
                for row, case in enumerate(ran.cases):
                    choice = tuple(sorted(index[row].tolist()))
                    yield _Seen(record.cases[case], scores[row], choice)


def _confound(ranked: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.floating]:
    """Confound scores (B,K) from what a graph ranks: them, or the sum of a keypoint's two peaks.

    A confound score is 1 less the mean of the peaks. Of both readings the one nearer to PyTorch's
    scores counts; what is right in neither fails in both.
    """
    readings = ranked, 1 - ranked.astype(np.float64) / 2
    return min(readings, key=lambda scores: _nan_first(max_difference(scores, expected)))


def _sweep(
    model: onnx.ModelProto,
    intervention: Intervention,
    sweep: Sweep,
    matrix: Matrix,
    provider: str,
) -> tuple[float, int]:
    """Forces each keypoint in turn: the largest error against float64, and whose it is."""
    setting = Setting(provider, matrix.levels[0], matrix.threads[-1])
    session = setting.open(head_with_choice(model, intervention))
    worst = (-1.0, 0)
    for start in range(0, len(sweep.choices), SWEEP_BATCH):
        choices = sweep.choices[start : start + SWEEP_BATCH]
        features = np.broadcast_to(sweep.features, (len(choices), *sweep.features.shape))
        feed: dict[str, NDArray[Any]] = {
            intervention.features: features,
            intervention.index: choices,
        }
        batch = Outputs(*run(session, ["simcc_x", "simcc_y"], feed))
        for row, keypoint in enumerate(range(start, start + len(choices))):
            found = Outputs(batch.simcc_x[row, keypoint], batch.simcc_y[row, keypoint])
            there = Outputs(sweep.double.simcc_x[keypoint], sweep.double.simcc_y[keypoint])
            error = max(found.errors(there), key=_nan_first)
            worst = max(worst, (error, keypoint), key=lambda pair: _nan_first(pair[0]))
    return worst


def _nan_first(value: float) -> float:
    return float("inf") if np.isnan(value) else value


@dataclass(frozen=True)
class Intervention:
    """The names of the values around the choice in one graph.

    ranked (B,K) goes into the TopK and index (B,k) comes out; features (B,K,C) are those of which
    rows are replaced.
    """

    ranked: str
    index: str
    features: str


def find_intervention(graph: onnx.GraphProto) -> Intervention | None:
    """The intervention of a graph; None unless one TopK decides what one Where replaces."""
    top_k = [node for node in graph.node if node.op_type == "TopK"]
    if len(top_k) != 1:
        return None
    index = top_k[0].output[1]
    derived, constants = {index}, {initializer.name for initializer in graph.initializer}
    for node in graph.node:
        if not derived & set(node.input):
            continue
        if node.op_type == "Where" and node.input[0] in derived:
            return Intervention(top_k[0].input[0], index, node.input[2])
        if set(node.input) <= derived | constants:
            derived.update(node.output)
    return None


def exposed(model: onnx.ModelProto, values: Iterable[str]) -> bytes:
    """The model with more outputs, of any type and shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=v) for v in values if v not in there)
    data: bytes = copy.SerializeToString()
    return data


def head_with_choice(model: onnx.ModelProto, intervention: Intervention) -> bytes:
    """The part behind the intervention: its features and its index are the inputs."""
    features = helper.make_tensor_value_info(
        intervention.features, TensorProto.FLOAT, ["b", "K", "C"]
    )
    return _from(model, [features, _choice(intervention)])


def with_choice(model: onnx.ModelProto, intervention: Intervention) -> bytes:
    """The whole model, told what to choose: the index is an input beside its own."""
    return _from(model, [*model.graph.input, _choice(intervention)])


def _choice(intervention: Intervention) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(intervention.index, TensorProto.INT64, ["b", "k"])


def _from(model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto]) -> bytes:
    """The part of a model from these values to its outputs."""
    graph, given = model.graph, {value.name for value in inputs}
    makers = {output: node for node in graph.node for output in node.output}
    wanted = [output.name for output in graph.output]
    needed: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in makers and name not in given | needed:
            needed.update(makers[name].output)
            wanted.extend(makers[name].input)
    nodes = [node for node in graph.node if needed & set(node.output)]
    used = {name for node in nodes for name in node.input}
    part = helper.make_graph(
        nodes,
        "part",
        inputs,
        list(graph.output),
        [initializer for initializer in graph.initializer if initializer.name in used],
    )
    data: bytes = helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString()
    return data


def plausible(choice: Iterable[int], scores: NDArray[np.floating], slack: float) -> bool:
    """Could scores (K,) that are off by up to half of `slack` have led to this choice?"""
    chosen = list(choice)
    others = np.delete(scores, chosen)
    return not others.size or bool(scores[chosen].min() >= others.max() - slack)


def gap(scores: NDArray[np.floating], k: int) -> float:
    """By how much the k-th highest of scores (K,) leads the next; infinite where there is none."""
    if k >= len(scores):
        return float("inf")
    ranked = np.sort(scores)[::-1]
    return float(ranked[k - 1] - ranked[k])
