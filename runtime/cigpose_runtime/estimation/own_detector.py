"""A Python function of the user's as a detector, by its name: MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import InputError, first_line
from cigpose_runtime.estimation.detector import Detections, surest

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def names_function(detector: str | os.PathLike[str]) -> bool:
    """Whether this is MODULE:FUNCTION, and no file."""
    return _NAME.fullmatch(os.fspath(detector)) is not None and not Path(detector).exists()


class FunctionDetector:
    """Calls a function of the user's on each frame, one after the other.

    The function takes a picture, (H, W, 3) uint8 RGB, which it may change, and returns boxes
    (people, 4), left, top, right, bottom in pixels, and scores (people,). name: MODULE:FUNCTION;
    the module is one that is installed, or lies in the working folder. score_threshold,
    nms_threshold, max_people: as in OnnxDetector. It pickles as its name.
    Raises InputError for a function that cannot be imported, and for each frame where it fails or
    returns something else.
    """

    def __init__(
        self,
        name: str,
        *,
        score_threshold: float = -np.inf,
        nms_threshold: float = 1.0,
        max_people: int | None = None,
    ) -> None:
        self.name = name
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_people = max_people
        self._function = _imported(name)

    def __call__(self, frame: Pixels) -> Detections:
        """The people in a frame, the highest score first."""
        try:
            boxes, scores = self._function(np.ascontiguousarray(frame[:, :, ::-1]))
            boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
        except Exception as error:
            raise self._wrong(f"{type(error).__name__}: {first_line(error)}") from error
        if not boxes.size and not scores.size:
            boxes, scores = boxes.reshape(0, 4), scores.reshape(0)
        if scores.ndim != 1 or boxes.shape != (len(scores), 4):
            raise self._wrong(f"shapes {boxes.shape} and {scores.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise self._wrong("some that are not finite")
        kept = surest(
            boxes,
            scores,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
        )[: self.max_people]
        return Detections(boxes[kept], scores[kept])

    def _wrong(self, found: str) -> InputError:
        return InputError(
            f"{self.name}: expected boxes (people, 4) and scores (people,), found {found}; correct "
            "the function"
        )

    def __reduce__(self) -> tuple[Callable[[], FunctionDetector], tuple[()]]:
        opened_again = partial(
            FunctionDetector,
            self.name,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            max_people=self.max_people,
        )
        return opened_again, ()


def module_file(name: str) -> Path | None:
    """The file of the module of MODULE:FUNCTION, which is imported; None for one without."""
    _imported(name)
    source = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return None if source is None else Path(source)


def _imported(name: str) -> Callable[[Pixels], Any]:
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # behind what is installed, which a file here must not replace
    try:
        found: Callable[[Pixels], Any] = getattr(importlib.import_module(module), function)
        if not callable(found):
            raise TypeError(f"{function} is no function")
    except Exception as error:
        raise InputError(
            f"{name}: expected a function in a module that is installed or in this folder, found "
            f"{type(error).__name__}: {first_line(error)}; correct --detector"
        ) from error
    return found
