"""Opens MMEngine checkpoint files without executing what they say.

A runner file holds more than weights: message hub, optimizer, schedulers. `torch.load` with
`weights_only=True` refuses a few of the types in there. They are admitted *by name*, as inert
stand-ins that keep nothing and call nothing; the real `getattr` is never among them.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cigpose_export.errors import CheckpointError
from cigpose_export.variants import WeightsKind
from cigpose_runtime.errors import FileError, printable
from cigpose_runtime.files import file_sha256

SYNTHETIC_MARK = "cigpose_synthetic"
"""Key in a checkpoint's `meta` that `synthesize` leaves and no published file has."""

DEMO_MARK = "cigpose_demo"
"""The same for the model that is trained on drawn people."""


class _Inert:
    """Stands in for a type in a checkpoint that inference has no use for; keeps nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None: ...


_STAND_INS: list[Any] = [
    (_Inert, name)
    for name in (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "builtins.getattr",
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
    )
]


@dataclass(frozen=True)
class Checkpoint:
    """What the export needs of a checkpoint file.

    `state_dict` is the EMA weights (MMEngine swaps them in on saving), memory-mapped, without any
    `module.` prefix. `config_text` is the text of the config that the file was trained with, as
    MMEngine prints it (`meta['cfg']`). `dataset_meta` is what its data set said of its keypoints,
    plain Python values and numpy arrays alone (`meta['dataset_meta']`).
    """

    path: Path
    sha256: str
    weights: WeightsKind
    state_dict: Mapping[str, Tensor]
    config_text: str | None = None
    dataset_meta: Mapping[str, Any] | None = None


def load_checkpoint(path: Path, *, expected_sha256: str | None = None) -> Checkpoint:
    """Hashes a checkpoint file, then opens it safely.

    Raises `CheckpointError` for a file that is missing, is no zip-format torch file, has another
    hash than expected, asks for code to be run, or holds no `state_dict` of tensors.
    """
    try:
        digest = file_sha256(path)
    except FileError as error:
        raise CheckpointError(str(error).replace("a file", "a checkpoint file", 1)) from error
    if expected_sha256 is not None and digest != expected_sha256:
        raise CheckpointError(
            f"{path}: expected sha256 {expected_sha256} (checkpoints/manifest.toml), "
            f"found {digest}; the file was not opened: delete it and fetch it again"
        )
    _require_torch_zip(path)
    content = _load_inert(path)
    state_dict = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state_dict, Mapping):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"{path}: expected an MMEngine checkpoint with a `state_dict`, found "
            f"{f'the keys {printable(found)}' if found else type(content).__name__}; "
            "pass the file that MMEngine's runner saved"
        )
    odd = [str(key) for key, value in state_dict.items() if not _is_weight(key, value)]
    if odd or not state_dict:
        raise CheckpointError(
            f"{path}: expected a `state_dict` of tensors, found "
            f"{_name_some('of another type', odd) or 'an empty one'}; "
            "pass the file that MMEngine's runner saved"
        )
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    config_text, dataset_meta = meta.get("cfg"), meta.get("dataset_meta")
    return Checkpoint(
        path=path,
        sha256=digest,
        weights=_kind_of(meta),
        state_dict=_without_module_prefix(state_dict),
        config_text=config_text if isinstance(config_text, str) else None,
        dataset_meta=_plain(dataset_meta) if isinstance(dataset_meta, Mapping) else None,
    )


DEEPEST = 20
"""Levels of nesting of a data set's description; MMPose's have four."""


def _plain(value: object, depth: int = 0) -> Any:
    """Plain Python values and numpy arrays, None in place of anything else."""
    if depth > DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v, depth + 1) for k, v in value.items() if isinstance(k, str | int)}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, depth + 1) for item in value)
    return value if value is None or type(value) in (str, int, float, bool) else None


def _kind_of(meta: Mapping[str, Any]) -> WeightsKind:
    if SYNTHETIC_MARK in meta:
        return "synthetic"
    return "demo" if DEMO_MARK in meta else "real"


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copies a checkpoint's weights into a model whose keys and shapes they match exactly.

    Raises `CheckpointError` that names and counts missing, extra and misshapen keys and values
    that are not finite.
    """
    expected, found = model.state_dict(), checkpoint.state_dict
    classes = "head.final_layer.weight"
    if classes in found and classes in expected and found[classes].dim():
        wanted, given = len(expected[classes]), len(found[classes])
        if wanted != given:
            raise CheckpointError(
                f"{checkpoint.path}: the config expects {wanted} keypoints, the weights have "
                f"{given}; pass the checkpoint of this variant"
            )
    shared = [key for key in expected if key in found]
    fitting = [key for key in shared if expected[key].shape == found[key].shape]
    problems = [
        _name_some("missing", [key for key in expected if key not in found]),
        _name_some("unexpected", [key for key in found if key not in expected]),
        _name_some(
            "of the wrong shape",
            [
                f"{key} (expected {tuple(expected[key].shape)}, found {tuple(found[key].shape)})"
                for key in shared
                if key not in fitting
            ],
        ),
        _name_some("not finite", [key for key in fitting if not found[key].isfinite().all()]),
    ]
    if any(problems):
        raise CheckpointError(
            f"{checkpoint.path}: {'; '.join(p for p in problems if p)}; "
            "pass the checkpoint of this variant"
        )
    model.load_state_dict(dict(found))


def _require_torch_zip(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    if names := _names_in_zip(path):
        if any(name.endswith("/data.pkl") for name in names):
            return
        found = "a zip archive that is no torch file"
    elif not head:
        found = "an empty file"
    elif head.startswith(b"version https://git-lfs"):
        found = "a Git-LFS pointer (run `git lfs pull` where it came from)"
    elif head.lstrip()[:1] == b"<":
        found = "an HTML or XML page (an error page saved as the file?)"
    elif head.startswith(b"PK"):
        found = "a damaged or truncated zip archive"
    elif head.startswith(b"\x80"):
        found = "a bare pickle (torch saved it before 1.6, or something else did)"
    else:
        found = "something else"
    raise CheckpointError(
        f"{path}: expected a checkpoint in torch's zip format, found {found}; "
        "delete it and fetch it again"
    )


def _names_in_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def _load_inert(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error says all there is to say
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: the file asks for more than weights ({_asked_for(error)}); nothing of it "
            "was run: do not use it unless you trust where it came from"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path}: torch cannot read the file ({_first_line(error)}); "
            "delete it and fetch it again"
        ) from error


def _asked_for(error: pickle.UnpicklingError) -> str:
    """What the file asked for, without torch's advice on how to give it that."""
    name = re.search(r"GLOBAL (\S+)", str(error))
    return printable(name[1]) if name else _first_line(error.__context__ or error)


def _first_line(error: BaseException) -> str:
    return printable((str(error).strip().splitlines() or [repr(error)])[0])


def _is_weight(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _without_module_prefix(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    prefix = "module."
    if state_dict and all(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): value for key, value in state_dict.items()}
    return state_dict


def _name_some(what: str, items: list[str], limit: int = 5) -> str:
    if not items:
        return ""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    noun = "key" if len(items) == 1 else "keys"
    return f"{len(items)} {noun} {what}: {printable(', '.join(items[:limit]))}{more}"
