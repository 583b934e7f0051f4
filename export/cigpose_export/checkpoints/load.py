"""Opens checkpoint files without executing what they say, and puts their weights into a model."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cigpose_export.checkpoints.forms import choose_weights, name_some
from cigpose_export.checkpoints.plain import plain_mapping
from cigpose_export.checkpoints.safetensors_file import is_safetensors, load_safetensors
from cigpose_export.checkpoints.stored import TensorReader
from cigpose_export.checkpoints.torch_legacy import MAGIC, load_torch_legacy
from cigpose_export.checkpoints.torch_zip import load_torch_zip
from cigpose_export.errors import CheckpointError
from cigpose_export.variants import WeightsKind
from cigpose_runtime.errors import FileError, error_context
from cigpose_runtime.files import file_sha256, open_file

SYNTHETIC_MARK = "cigpose_synthetic"
"""Key in a checkpoint's `meta` that `synthesize` leaves and no published file has."""

DEMO_MARK = "cigpose_demo"
"""The same for the model that is trained on drawn people."""

HASH_IN_NAME = re.compile(r"(?:-([0-9a-f]{8})_\d{8}|_\d{8}-([0-9a-f]{8}))\.pth\Z")
"""How a file's name ends that one of OpenMMLab's publishing scripts has named."""

ZIP = b"PK"


@dataclass(frozen=True)
class Checkpoint:
    """What the export needs of a checkpoint file.

    `state_dict` is memory-mapped, its keys without what wrappers of a model put before them.
    `config_text` is the text of the config that the file was trained with, as MMEngine prints it
    (`meta['cfg']`). `dataset_meta` is what its data set said of its keypoints, plain Python values
    and numpy arrays alone (`meta['dataset_meta']`). `has_checksums`: the file has checksums of its
    own, which were compared; without them, or an expected hash, a damaged weight is not noticed.
    """

    path: Path
    sha256: str
    weights: WeightsKind
    state_dict: Mapping[str, Tensor]
    config_text: str | None = None
    dataset_meta: Mapping[str | int, Any] | None = None
    has_checksums: bool = False


def load_checkpoint(
    path: Path, *, expected_sha256: str | None = None, weights_key: str | None = None
) -> Checkpoint:
    """Hashes a checkpoint file, then opens it safely, whichever form it has.

    Without an expected hash, the checksums in the file are compared, where it has such.
    weights_key: the entry with the weights, in place of the usual one. Raises `CheckpointError` for
    a file that is missing, damaged or no checkpoint, has another hash, asks for code to be run, or
    holds no state dict of tensors.
    """
    try:
        digest = file_sha256(path, "a checkpoint file")
    except FileError as error:
        raise CheckpointError(str(error)) from error
    _require_hash(path, digest, expected_sha256)
    with error_context(path), _mapped(path) as mapped:
        content = _load_inert(mapped, check_sums=expected_sha256 is None)
        weights = choose_weights(content, weights_key)
        reader = TensorReader(mapped)
        meta = content.get("meta")
        meta = meta if isinstance(meta, Mapping) else {}
        config_text = meta.get("cfg")
        return Checkpoint(
            path=path,
            sha256=digest,
            weights=_kind_of(meta),
            state_dict={key: reader.read(stored) for key, stored in weights.items()},
            config_text=config_text if isinstance(config_text, str) else None,
            dataset_meta=plain_mapping(meta.get("dataset_meta")),
            has_checksums=expected_sha256 is None and mapped[:2] == ZIP,
        )


def hash_in_name(name: str) -> str | None:
    """The eight hex digits that the sha256 begins with, where a file's name says them."""
    found = HASH_IN_NAME.search(name)
    return (found[1] or found[2]) if found else None


def _require_hash(path: Path, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise CheckpointError(
            f"{path}: expected sha256 {expected} (checkpoints/manifest.toml), "
            f"found {digest}; the file was not opened: delete it and fetch it again"
        )
    begins = hash_in_name(path.name)
    if begins and not digest.startswith(begins):
        raise CheckpointError(
            f"{path}: expected a sha256 that begins with {begins}, as the name says, found "
            f"{digest}; the file was not opened: fetch it again, or rename it if you changed it"
        )


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file as bytes that may be written to without changing it; unmapped with its last user."""
    with open_file(path, "a checkpoint file") as file:
        if not path.stat().st_size:
            raise CheckpointError(_not_a_checkpoint("an empty file"))
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _load_inert(mapped: mmap.mmap, *, check_sums: bool) -> Any:
    head = mapped[:512]
    if head.startswith(ZIP):
        return load_torch_zip(mapped, check_sums=check_sums)
    if head.startswith(MAGIC):
        return load_torch_legacy(mapped)
    if is_safetensors(head):
        tensors, metadata = load_safetensors(mapped)
        return {"state_dict": tensors, "meta": metadata}
    if head.startswith(b"version https://git-lfs"):
        found = "a Git-LFS pointer (run `git lfs pull` where it came from)"
    elif head.lstrip()[:1] == b"<":
        found = "an HTML or XML page (an error page saved as the file?)"
    elif head[257:262] == b"ustar":
        raise CheckpointError(
            "expected a checkpoint, found a tar archive, as torch saved before 0.1.10; load it "
            "with a torch that knows it, if you trust it, and save the weights with torch.save"
        )
    elif head.startswith(b"\x80"):
        raise CheckpointError(
            "expected a checkpoint that torch.save wrote, found a bare pickle, which only running "
            "it could read; load it where you trust it and save the weights with torch.save"
        )
    else:
        found = "something else"
    raise CheckpointError(_not_a_checkpoint(found))


def _not_a_checkpoint(found: str) -> str:
    return (
        f"expected a checkpoint that torch.save wrote, found {found}; delete it and fetch it again"
    )


def _kind_of(meta: Mapping[Any, Any]) -> WeightsKind:
    if SYNTHETIC_MARK in meta:
        return "synthetic"
    return "demo" if DEMO_MARK in meta else "real"


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copies a checkpoint's weights into a model whose keys and shapes they match.

    As for torch, a vector of one element may stand for a scalar, and counters of batches, which
    inference does not read, may be missing. Buffers of the data preprocessor may be there, if they
    say what the model's say.

    Raises `CheckpointError` that names and counts missing, extra and misshapen keys, values that
    are not finite, and values that float32 cannot hold.
    """
    with error_context(checkpoint.path):
        expected = model.state_dict()
        found = _fit(model, expected, dict(checkpoint.state_dict))
        _require_fit(expected, found)
    model.load_state_dict(found)


def _fit(
    model: nn.Module, expected: Mapping[str, Tensor], found: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The same weights, in the keys and shapes of the model wherever these leave no doubt."""
    buffers = dict(model.named_buffers())
    for key in [key for key in found if key.startswith("data_preprocessor.")]:
        if key in expected or key not in buffers:
            continue
        value, ours = found.pop(key), buffers[key]
        if value.shape.numel() != ours.numel() or not _same(value, ours):
            raise CheckpointError(
                f"expected {key} {ours.flatten().tolist()}, as in the config, found "
                f"{value.flatten()[:3].tolist()}; pass the checkpoint of this variant"
            )
    for key, value in expected.items():
        if key.endswith(".num_batches_tracked"):
            found.setdefault(key, value)
        if not value.shape and key in found and found[key].shape == (1,):
            found[key] = found[key][0]
    return found


def _same(value: Tensor, ours: Tensor) -> bool:
    return torch.allclose(value.flatten().double(), ours.flatten().double(), rtol=1e-6, atol=0)


def _require_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    classes = "head.final_layer.weight"
    if classes in found and classes in expected and found[classes].dim():
        wanted, given = len(expected[classes]), len(found[classes])
        if wanted != given:
            raise CheckpointError(
                f"the config expects {wanted} keypoints, the weights have "
                f"{given}; pass the checkpoint of this variant"
            )
    shared = [key for key in expected if key in found]
    fitting = [key for key in shared if expected[key].shape == found[key].shape]
    floats = [key for key in fitting if expected[key].is_floating_point()]
    real = [key for key in floats if found[key].is_floating_point()]
    finite = [key for key in real if found[key].isfinite().all()]
    problems = [
        name_some("missing", [key for key in expected if key not in found]),
        name_some("unexpected", [key for key in found if key not in expected]),
        name_some(
            "of the wrong shape",
            [
                f"{key} (expected {tuple(expected[key].shape)}, found {tuple(found[key].shape)})"
                for key in shared
                if key not in fitting
            ],
        ),
        name_some("not of floating point", [key for key in floats if key not in real]),
        name_some("not finite", [key for key in real if key not in finite]),
        name_some(
            "beyond float32",
            [key for key in finite if not found[key].to(expected[key].dtype).isfinite().all()],
        ),
    ]
    if any(problems):
        raise CheckpointError(
            f"{'; '.join(p for p in problems if p)}; pass the checkpoint of this variant"
        )
