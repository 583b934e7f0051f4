"""Runs the bytes that ship under every optimisation level, thread count, batch and provider."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cigpose_runtime.errors import first_line
from cigpose_runtime.estimation.ort import ort
from cigpose_runtime.estimation.session import CPU, LEVELS, open_session
from cigpose_runtime.machine import cores
from cigpose_verify.errors import RunError
from cigpose_verify.reference_record import Outputs


@dataclass(frozen=True)
class Matrix:
    """The settings that a file has to hold under, all combinations of them."""

    providers: tuple[str, ...] = (CPU,)
    levels: tuple[str, ...] = tuple(LEVELS)
    threads: tuple[int, ...] = field(default_factory=lambda: (1, max(2, cores())))
    batches: tuple[int, ...] = (1, 2, 3, 8)

    def settings(self) -> Iterator[Setting]:
        """Each provider, level and number of threads."""
        for provider in self.providers:
            for level in self.levels:
                for threads in self.threads:
                    yield Setting(provider, level, threads)


@dataclass(frozen=True)
class Setting:
    """How a session runs."""

    provider: str
    level: str
    threads: int

    def __str__(self) -> str:
        return f"{self.provider}, {self.level}, threads {self.threads}"

    def open(self, data: bytes) -> ort.InferenceSession:
        """A session on the model in `data`; raises as `open_session`."""
        return open_session(
            data,
            providers=[self.provider],
            threads=self.threads,
            level=self.level,
            spinning=False,  # models are verified side by side
        )


@dataclass(frozen=True)
class BatchRun:
    """The outputs of one run: of the cases with these indices, as one batch."""

    cases: range
    outputs: dict[str, np.ndarray]
    seconds: float

    def row(self, index: int) -> Outputs:
        """Of the case that is at `index` in the batch."""
        return Outputs(self.outputs["simcc_x"][index], self.outputs["simcc_y"][index])


def run_all(
    session: ort.InferenceSession, inputs: Mapping[str, np.ndarray], batch: int
) -> Iterator[BatchRun]:
    """Runs all cases in batches of one size; the last one overlaps the one before it.

    inputs: by name, a row a case; `input` is (N,3,h,w).
    """
    names = [output.name for output in session.get_outputs()]
    count = len(inputs["input"])
    batch = min(batch, count)
    for start in range(0, count, batch):
        first = min(start, count - batch)
        cases = range(first, first + batch)
        feed = {name: rows[first : first + batch] for name, rows in inputs.items()}
        started = time.perf_counter()
        values = run(session, names, feed)
        seconds = time.perf_counter() - started
        yield BatchRun(cases, dict(zip(names, values, strict=True)), seconds)


def run(
    session: ort.InferenceSession, names: Sequence[str], feed: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The values of these names. Raises `RunError` when the model does not run."""
    try:
        values: list[np.ndarray] = session.run(names, feed)
    except Exception as error:
        raise RunError(
            f"expected outputs, found that the model does not run ({first_line(error)})"
        ) from error
    return values
