"""Runs the bytes that ship under every optimisation level, thread count, batch and provider."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort

from cigpose_runtime.errors import OnnxFileError
from cigpose_verify.errors import ProviderError, RunError
from cigpose_verify.record import Outputs

LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

CPU = "CPUExecutionProvider"


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        """A session on the model in `data`.

        Raises `ProviderError` when the provider is not there or does not take part, and
        `OnnxFileError` when onnxruntime refuses the model.
        """
        require_providers([self.provider])
        options = ort.SessionOptions()
        options.graph_optimization_level = LEVELS[self.level]
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what is wrong is raised, too
        try:
            session = ort.InferenceSession(data, options, providers=[self.provider])
        except Exception as error:
            raise OnnxFileError(
                f"expected a model that onnxruntime {ort.__version__} loads, found one that it "
                f"refuses ({first_line(error)}); export it again"
            ) from error
        if self.provider not in session.get_providers():
            raise ProviderError(
                f"expected {self.provider} to run the model, found that onnxruntime fell back to "
                f"{', '.join(session.get_providers())}; mend its installation or leave it out"
            )
        return session


def require_providers(providers: Sequence[str]) -> None:
    """Raises `ProviderError` for one that onnxruntime does not have here."""
    available = ort.get_available_providers()
    for provider in providers:
        if provider not in available:
            raise ProviderError(
                f"expected an execution provider of this onnxruntime, found {provider!r}; it has "
                f"{', '.join(available)}; install the onnxruntime build that brings it"
            )


@dataclass(frozen=True)
class Ran:
    """The outputs of one run: of the cases with these indices, as one batch."""

    cases: range
    outputs: dict[str, np.ndarray]
    seconds: float

    def row(self, index: int) -> Outputs:
        """Of the case that is at `index` in the batch."""
        return Outputs(self.outputs["simcc_x"][index], self.outputs["simcc_y"][index])


def run_all(session: ort.InferenceSession, inputs: np.ndarray, batch: int) -> Iterator[Ran]:
    """Runs inputs (N,3,h,w) in batches of one size; the last one overlaps the one before it."""
    names = [output.name for output in session.get_outputs()]
    batch = min(batch, len(inputs))
    for start in range(0, len(inputs), batch):
        first = min(start, len(inputs) - batch)
        cases = range(first, first + batch)
        feed = {"input": inputs[first : first + batch]}
        started = time.perf_counter()
        try:
            values = session.run(names, feed)
        except Exception as error:
            raise RunError(
                f"expected outputs, found that the model does not run ({first_line(error)})"
            ) from error
        seconds = time.perf_counter() - started
        yield Ran(cases, dict(zip(names, values, strict=True)), seconds)


def first_line(error: Exception) -> str:
    """What onnxruntime says of itself, in one line; its errors share no base class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
