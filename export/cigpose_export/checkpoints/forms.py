"""The forms that people save weights in, and the one that a model wants: its own keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cigpose_export.checkpoints.stored import StoredTensor
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import printable, quoted

USUAL_KEYS = ("state_dict", "model")
"""Where the weights are, unless `--weights-key` says otherwise: in MMEngine's files, in others'."""

OTHER_KEYS = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
"""Where further weights are. Never chosen by themselves: MMEngine's EMA hook swaps on saving, so
that the averaged weights are in `state_dict`."""

COUNTERS = frozenset({"steps", "n_averaged"})
"""What MMEngine's and torch's averaged models keep beside the model."""

MOST_WEIGHTS = 20_000
"""Tensors; CIGPose-x has 622, a model of the largest kind that MMPose builds some 2,000."""

MOST_LETTERS = 200
"""Of a key in an error."""


def choose_weights(content: Any, weights_key: str | None) -> dict[str, StoredTensor]:
    """The weights in what a file holds, under the model's own keys.

    weights_key: the entry that they are in; None for the usual ones, or a bare state dict.
    Raises `CheckpointError` that says what else is there.
    """
    weights = _find(content, weights_key)
    if len(weights) > MOST_WEIGHTS:
        raise CheckpointError(
            f"expected at most {MOST_WEIGHTS} weights, found {len(weights)}; pass the file of one "
            "model"
        )
    odd = [key for key, value in weights.items() if not _is_weight(key, value)]
    if odd or not weights:
        raise CheckpointError(
            "expected a state dict of tensors, found "
            f"{name_some('of another type', list(map(_text, odd))) or 'an empty one'}; "
            "pass a file that holds model.state_dict(), saved with torch.save"
        )
    return _own_keys(weights)


def _find(content: Any, weights_key: str | None) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        kind = "one tensor" if isinstance(content, StoredTensor) else type(content).__name__
        raise CheckpointError(
            f"expected an MMEngine checkpoint with a `state_dict`, found {kind}; "
            "pass the file that MMEngine's runner saved"
        )
    if weights_key is not None:
        return _entry(content, weights_key)
    for key in USUAL_KEYS:
        if isinstance(content.get(key), Mapping):
            return _entry(content, key)
    if content and any(isinstance(value, StoredTensor) for value in content.values()):
        return content
    others = [key for key in OTHER_KEYS if isinstance(content.get(key), Mapping)]
    advice = (
        f"choose the weights with --weights-key {others[0]}"
        if others
        else "pass the file that MMEngine's runner saved, or name the entry with --weights-key"
    )
    raise CheckpointError(
        f"expected an MMEngine checkpoint with a `state_dict`, found {_keys(content)}; {advice}"
    )


def _entry(content: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    entry = content.get(key)
    if not isinstance(entry, Mapping):
        raise CheckpointError(
            f"expected weights in {quoted(key)}, found {_keys(content)}; "
            "name one of them with --weights-key"
        )
    return entry


def _is_weight(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, StoredTensor)


def _own_keys(weights: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Without what torch.compile, DataParallel and averaged models put into the keys."""
    found = {".".join(p for p in k.split(".") if p != "_orig_mod"): v for k, v in weights.items()}
    if len(found) != len(weights):
        raise CheckpointError(
            "expected each key once, found some both with and without `_orig_mod`; pass the "
            "state dict of one model"
        )
    prefix = "module."
    while True:
        prefixed = {key: value for key, value in found.items() if key not in COUNTERS}
        if not prefixed or not all(key.startswith(prefix) for key in prefixed):
            return found
        found = {key.removeprefix(prefix): value for key, value in prefixed.items()}


def _keys(content: Mapping[Any, Any], limit: int = 5) -> str:
    names = ", ".join(map(_text, list(content)[:limit]))
    return f"the keys {names}" if names else "nothing"


def _text(key: object) -> str:
    return printable(key[:MOST_LETTERS]) if isinstance(key, str) else quoted(key)


def name_some(what: str, items: list[str], limit: int = 5) -> str:
    """How many keys are such, and the first of them; nothing for none."""
    if not items:
        return ""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    listed = [item[:MOST_LETTERS] for item in items[:limit]]
    noun = "key" if len(items) == 1 else "keys"
    return f"{len(items)} {noun} {what}: {printable(', '.join(listed))}{more}"
