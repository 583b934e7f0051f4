"""Compares the config that a checkpoint carries with the one that it is exported by.

Keys and shapes of the weights do not tell a skeleton, a mean or an `intervention_k_val` from
another. The two configs do. What counts is what would be built from either: arguments that are
left out have the defaults of MMPose's own classes, what only training reads is left aside, and
values that mean the same function are made equal first (`_said_by` and below).
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cigpose_export.checkpoints.carried_config import Unread, read_config_text
from cigpose_export.checkpoints.load import Checkpoint
from cigpose_export.errors import ConfigMismatchError
from cigpose_export.modeling.build import register_head
from cigpose_export.modeling.cig_head import CausalIntervention
from cigpose_export.modeling.topdown_simcc import CIG_HEADS
from cigpose_export.openmmlab import (
    MODELS,
    Config,
    GetBBoxCenterScale,
    SimCCLabel,
    TopdownAffine,
)
from cigpose_runtime.errors import printable

TRAINING_ONLY = {
    "_delete_",
    "_scope_",
    "batch_augments",
    "decoder",  # compared by itself
    "drop_path",
    "dropout_rate",
    "frozen_stages",
    "init_cfg",
    "inplace",
    "intervention_k",
    "loss",
    "loss_cf",
    "momentum",
    "non_blocking",
    "norm_eval",
    "pad_size_divisor",  # a crop is as large as the input: nothing is padded
    "pad_value",
    "requires_grad",
}
"""Arguments of a part of the model, at any depth, that its outputs do not follow from."""

SAME_TYPE = {
    **dict.fromkeys(CIG_HEADS, CIG_HEADS[0]),
    **dict.fromkeys(("SyncBN", "MMSyncBN", "NaiveSyncBN", "BN2d"), "BN"),
    "Swish": "SiLU",
    "Conv2d": "Conv",
}
"""Types that compute the same at inference, by the name that they are compared under."""

NORM_EPS = 1e-5
"""What a norm has whose config gives none (mmcv.cnn.build_norm_layer)."""

MOST_FIELDS = 3
MOST_LETTERS = 160
"""Of what differs: how many an error spells out, and how long each may be."""


def require_same_model(checkpoint: Checkpoint, config: Config) -> str | None:
    """Raises `ConfigMismatchError` when a checkpoint was trained as another model than `config`'s.

    Returns one line on what of its text could not be compared, None where all could, or where the
    checkpoint carries no text.
    """
    if checkpoint.config_text is None:
        return None
    carried = read_config_text(checkpoint.config_text)
    subject = "the config that it carries"
    if isinstance(carried, Unread):
        return printable(f"{checkpoint.path.name}: {subject} was not compared ({carried.why})")
    differences, uncompared = compare_configs(carried, config.to_dict())
    if differences:
        raise ConfigMismatchError(
            printable(
                f"{checkpoint.path}: {subject} contradicts {Path(config.filename).name}: "
                f"{_first_of(differences, '; ')}; pass the checkpoint of this model, or its own "
                "config with --config FILE"
            )
        )
    if uncompared:
        return printable(
            f"{checkpoint.path.name}: {subject} was not compared in {_first_of(uncompared, ', ')}"
        )
    return None


def compare_configs(
    theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """What two configs say differently, a line each, and what could not be compared.

    A field that only one of them has is no contradiction: there is nothing to compare it with.
    """
    register_head()
    said, expected = _said_by(theirs), _said_by(ours)
    unread = [f"{key} ({value.why})" for key, value in said.items() if isinstance(value, Unread)]
    unknown = [f"{key} (unknown here)" for key in said if _is_unknown(key, expected)]
    differences = [
        f"{key}: {_told_apart(value, expected[key])}"
        for key, value in said.items()
        if key in expected and not isinstance(value, Unread) and value != expected[key]
    ]
    return differences, unread + unknown


def _is_unknown(key: str, expected: Mapping[str, Any]) -> bool:
    """Whether ours has the part that a field belongs to, but not the field."""
    part = key.rpartition(".")[0]
    return key not in expected and (part in expected or f"{part}.type" in expected)


def _said_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the function and the contract, by field, in a form to compare by `==`."""
    return dict(_fields(config))


def _fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    model = config.get("model")
    if not isinstance(model, Mapping):
        yield "model", model if isinstance(model, Unread) else Unread("there is none")
    elif "student_cfg" in model:  # MMPose's DWPoseDistiller
        yield "model", Unread("it is a distiller's, its student's is in a file of its own")
        yield from _part_fields("model.data_preprocessor", model.get("data_preprocessor"))
    else:
        yield "model.type", _type(model)
        for part in ("data_preprocessor", "backbone", "neck", "head"):
            yield from _part_fields(f"model.{part}", model.get(part))
        head = model.get("head")
        if isinstance(head, Mapping):
            yield from _decoder_fields(head.get("decoder", config.get("codec")))
    if (dataset := _dataset_type(config)) is not None:
        yield "dataset_type", dataset
    yield from _geometry_fields(config)


def _part_fields(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    """The arguments of a part of the model, those left out included."""
    if not isinstance(part, Mapping):
        yield f"{name}.type", part
        return
    kind = _type(part)
    yield f"{name}.type", kind
    # Not MODELS.get, which imports what the text names.
    said = {**_defaults(MODELS.module_dict.get(kind)), **part}
    said.pop("type", None)
    if unread := next((v for v in _flags(said) if isinstance(v, Unread)), None):
        yield f"{name}.bgr_to_rgb", unread
    elif "bgr_to_rgb" in said:  # either of the two swaps
        yield f"{name}.bgr_to_rgb", any(_flags(said))
    for key, value in said.items():
        if key not in {*TRAINING_ONLY, "bgr_to_rgb", "rgb_to_bgr"}:
            yield from _argument_fields(f"{name}.{key}", key, value)


def _flags(preprocessor: Mapping[str, Any]) -> list[Any]:
    return [preprocessor.get(key) for key in ("bgr_to_rgb", "rgb_to_bgr")]


def _argument_fields(name: str, key: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """One argument; where it is a mapping, each of its values."""
    if key == "conv_cfg" and value is None:
        value = {"type": "Conv"}
    if key == "norm_cfg" and isinstance(value, Mapping):
        value = {"eps": NORM_EPS, **value}
    if key == "cim_cfg" and isinstance(value, Mapping):
        value = _intervention(value)
    if isinstance(value, Mapping):
        yield name, "a dict"
        for inner, said in value.items():
            if inner not in TRAINING_ONLY:
                yield f"{name}.{inner}", _type(value) if inner == "type" else _plain(said)
    elif key in ("keypoint_connections", "keypoint_groups"):
        yield name, _as_sets(_plain(value))
    else:
        yield name, _plain(value)


def _intervention(cim_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A `cim_cfg` without the argument that its strategy does not read."""
    said = {**_defaults(CausalIntervention), **cim_cfg}
    idle = {"topk": "intervention_threshold", "threshold": "intervention_k_val"}
    unused = idle.get(str(said["intervention_strategy"]))
    return {key: value for key, value in said.items() if key != unused}


def _decoder_fields(decoder: Any) -> Iterator[tuple[str, Any]]:
    """What decoding reads of a codec; the rest says what targets look like in training."""
    name = "model.head.decoder"
    if not isinstance(decoder, Mapping):
        yield name, decoder
        return
    said = {**_defaults(SimCCLabel), **decoder}
    yield f"{name}.type", _type(decoder)
    fields = ["input_size", "simcc_split_ratio", "use_dark", "decode_visibility"]
    if said["use_dark"] is True or said["decode_visibility"] is True:
        fields += ["sigma"]
    if said["decode_visibility"] is True:
        fields += ["decode_beta"]
    for key in fields:
        if key in said:
            yield f"{name}.{key}", _plain(said[key])


def _dataset_type(config: Mapping[str, Any]) -> Any:
    """The data set that a config is for: as it names it, else what most of its training is on.

    The configs of UBody train on COCO-WholeBody too, and validate on it.
    """
    if "dataset_type" in config:
        return _last(config["dataset_type"])
    loader = config.get("train_dataloader")
    types = list(_leaves(loader.get("dataset"))) if isinstance(loader, Mapping) else []
    return Counter(types).most_common(1)[0][0] if types else None


def _leaves(dataset: Any) -> Iterator[Any]:
    """The types of the data sets within MMEngine's and MMPose's wrappers."""
    if isinstance(dataset, list | tuple):
        for part in dataset:
            yield from _leaves(part)
    elif isinstance(dataset, Mapping):
        inner = dataset.get("datasets", dataset.get("dataset"))
        yield from [_type(dataset)] if inner is None else _leaves(inner)
    elif isinstance(dataset, Unread):
        yield dataset


def _geometry_fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """How the crop is cut: `box_padding` of our configs, else of the pipeline for testing."""
    steps = {_type(step): step for step in _test_pipeline(config)}
    padding, affine = steps.get("GetBBoxCenterScale"), steps.get("TopdownAffine")
    if "box_padding" in config:
        yield "box_padding", config["box_padding"]
    elif padding is not None:
        yield "box_padding", {**_defaults(GetBBoxCenterScale), **padding}["padding"]
    # Our own configs have no pipeline: they are for MMPose's.
    yield "use_udp", {**_defaults(TopdownAffine), **(affine or {})}["use_udp"]


def _test_pipeline(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    part = config.get("test_dataloader", config.get("val_dataloader"))
    while isinstance(part, Mapping):
        if isinstance(part.get("pipeline"), list) and part["pipeline"]:
            return [step for step in part["pipeline"] if isinstance(step, Mapping)]
        part = part.get("dataset")
    return []


def _defaults(owner: Any) -> dict[str, Any]:
    """What the arguments of a class are where they are left out, those of its bases included."""
    found: dict[str, Any] = {}
    bases: list[Any] = [*inspect.getmro(owner)[:-1]] if inspect.isclass(owner) else []
    for base in reversed(bases):
        parameters = inspect.signature(base.__init__).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            found = {}  # its bases get what it chooses itself
        found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return found


def _type(part: Mapping[str, Any]) -> Any:
    return _last(part.get("type", Unread("it has no type")))


def _last(name: Any) -> Any:
    """A type without its scope or module: mmdet.CSPNeXt, mmpose.models.CSPNeXt."""
    if not isinstance(name, str):
        return name if isinstance(name, Unread) else Unread("its type is no text")
    short = name.rpartition(".")[2]
    return SAME_TYPE.get(short, short)


def _plain(value: Any) -> Any:
    """Sequences as tuples; `Unread` as a whole where a part of it is."""
    if isinstance(value, list | tuple):
        items = tuple(map(_plain, value))
        return next((item for item in items if isinstance(item, Unread)), items)
    if isinstance(value, Mapping):
        return _plain(sorted(((str(k), v) for k, v in value.items()), key=lambda pair: pair[0]))
    return value


def _as_sets(value: Any) -> Any:
    """Edges or groups (or what stands there instead) in an order of their own.

    Edges run both ways, groups are averaged, and sums over either have no order. One that is
    listed twice counts twice.
    """
    try:
        return tuple(sorted(tuple(sorted(members)) for members in value))
    except TypeError:
        return value


def _told_apart(theirs: Any, ours: Any) -> str:
    """Both values for a message; of long lists, what only one of them has."""
    there, here, only = [repr(theirs)], [repr(ours)], ""
    if isinstance(theirs, tuple) and isinstance(ours, tuple) and len(theirs) + len(ours) > 8:
        theirs_counted, ours_counted = Counter(map(repr, theirs)), Counter(map(repr, ours))
        there, here = [*(theirs_counted - ours_counted)], [*(ours_counted - theirs_counted)]
        only = "only "
    return (
        f"{_first_of(there, ', ') or 'none'} {only}in the checkpoint, "
        f"{_first_of(here, ', ') or 'none'} {only}in the config"
    )


def _first_of(texts: list[str], separator: str) -> str:
    """Some of many texts, each shortened, and how many more there are."""
    more = [f"and {len(texts) - MOST_FIELDS} more"] * (len(texts) > MOST_FIELDS)
    some = [t if len(t) <= MOST_LETTERS else f"{t[: MOST_LETTERS - 3]}..." for t in texts]
    return separator.join([*some[:MOST_FIELDS], *more])
