"""The keypoints of a user's own model: names, skeleton, flip pairs and sigmas, and who says them.

Three may say it: a file of the user's (`--keypoints`), the data set in the config, and the data set
as the checkpoint recorded it (`meta['dataset_meta']`). Each may leave something out; what two of
them say has to be the same.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cigpose_export.errors import ConfigError
from cigpose_export.openmmlab import DATASETS, Config, parse_pose_metainfo
from cigpose_export.own_model import OwnModel, shipped_configs
from cigpose_runtime.errors import MetadataError, error_context, last_line, printable, quoted
from cigpose_runtime.files import read_bytes
from cigpose_runtime.keypoints import KEYPOINT_SETS, KeypointSet
from cigpose_runtime.model_file.contract import load_document
from cigpose_runtime.model_file.contract_fields import RULES

FIELDS = ("keypoint_names", "skeleton", "flip_pairs", "oks_sigmas")
"""What has to be said, under the names that a file's metadata have for it."""

SHOWN = 100
"""How many characters of a contradiction an error shows, of either side."""


@dataclass(frozen=True)
class Said:
    """What one source says: `values` by the names in FIELDS, and `dataset`."""

    source: str
    values: Mapping[str, Any]


def keypoints_of(
    model: OwnModel, config: Config, dataset_meta: Mapping[str | int, Any] | None
) -> KeypointSet:
    """The keypoints of a model.

    dataset_meta: as the checkpoint has it. Raises ConfigError where something is missing, said
    differently by two sources, or not for as many keypoints as the head has.
    """
    sources = list(_sources(model, config, dataset_meta))
    _require_agreement(sources)
    values: dict[str, Any] = {}
    for said in sources:
        values = {**said.values, **values}
    count = config.model.head.out_channels
    missing = [field for field in FIELDS if field not in values]
    if missing:
        raise ConfigError(
            f"{model.config}: expected {', '.join(missing)} of {count} keypoints in the config's "
            "data set, in the checkpoint or in a file, found none; state them in a JSON file and "
            "pass it as --keypoints FILE.json"
        )
    for field in ("keypoint_names", "oks_sigmas"):
        if len(values[field]) != count:
            source = next(said.source for said in sources if field in said.values)
            raise ConfigError(
                f"{model.config}: expected {field} of {count} keypoints, as the head has, found "
                f"{len(values[field])} in {source}; correct that"
            )
    return _named(values, values.get("dataset", model.name))


def _named(values: Mapping[str, Any], dataset: str) -> KeypointSet:
    """The set, under the name of the known one that it is, if it is one."""
    own = KeypointSet(
        dataset=dataset,
        names=values["keypoint_names"],
        skeleton=values["skeleton"],
        flip_pairs=values["flip_pairs"],
        oks_sigmas=values["oks_sigmas"],
    )
    for known in KEYPOINT_SETS.values():
        same = own.names == known.names and own.flip_indices == known.flip_indices
        if same and own.oks_sigmas == known.oks_sigmas:
            return KeypointSet(**{**vars(own), "dataset": known.dataset})
    return own


def _sources(
    model: OwnModel, config: Config, dataset_meta: Mapping[str | int, Any] | None
) -> Iterator[Said]:
    if model.keypoints_path is not None:
        yield Said(str(model.keypoints_path), _of_file(model.keypoints_path))
    if (values := keypoints_in_config(config, model.config)) is not None:
        yield Said(f"the data set of {model.config.name}", values)
    if dataset_meta:
        source = "the checkpoint's dataset_meta"
        yield Said(source, _of_metainfo(dict(dataset_meta), source))


def _of_file(path: Path) -> dict[str, Any]:
    """A JSON object with some of FIELDS, and `dataset`, as in the metadata of an exported file."""
    data = read_bytes(path, "a JSON file with keypoints")
    with error_context(path):
        document = load_document(data)
        known = ("dataset", *FIELDS)
        if unknown := [key for key in document if key not in known]:
            raise MetadataError(
                f"expected only {', '.join(known)}, found {quoted(unknown[0])}; remove it"
            )
        return _checked({key: RULES[key].from_json(value) for key, value in document.items()})


def keypoints_in_config(config: Config, path: Path) -> dict[str, Any] | None:
    """What a config's data set says, by the names in FIELDS and `dataset`; None if it has none.

    That is a `dataset_info` at the top, else the `metainfo` of the data set for training, for
    testing or for validation, else what the data set's class says.
    """
    metainfo = next(_metainfos(config), None)
    if not metainfo:
        return None
    if "from_file" in metainfo:
        found = _metainfo_file(metainfo["from_file"], path)
        try:
            metainfo = Config.fromfile(found).dataset_info
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{found}: expected a config with a dataset_info, found none "
                f"({last_line(error)}); correct it"
            ) from error
    return _of_metainfo(dict(metainfo), f"the data set of {path.name}")


def _metainfos(config: Config) -> Iterator[Mapping[Any, Any]]:
    loaders = [config.get(f"{part}_dataloader") or {} for part in ("train", "test", "val")]
    named = {"type": config.get("dataset_type")}
    said = [config.get("dataset_info"), config.model.get("metainfo")]
    for dataset in [*(loader.get("dataset") for loader in loaders), named]:
        for one in _with_inner(dataset):
            kind = one.get("type")
            known = DATASETS.get(kind) if isinstance(kind, str) else kind
            said += [one.get("metainfo"), getattr(known, "METAINFO", None)]
    yield from filter(None, said)


def _with_inner(dataset: Any) -> Iterator[Mapping[Any, Any]]:
    """A data set and those in it, where it is a wrapper, as RepeatDataset."""
    if isinstance(dataset, Mapping):
        yield dataset
        for inner in (dataset.get("dataset"), *dataset.get("datasets", ())):
            yield from _with_inner(inner)


def _metainfo_file(named: str, config: Path) -> Path:
    """Where `from_file` of a data set is: seen from the config's folder or one above it, from the
    current folder, or within MMPose's own configs."""
    folders = [*config.absolute().parents, Path.cwd(), shipped_configs().parent]
    for folder in folders:
        if (folder / named).is_file():
            return folder / named
    raise ConfigError(
        f"{config}: expected the file that its data set names, {named}, found none; correct the "
        "path, or run from the folder that it starts at"
    )


def _of_metainfo(metainfo: Mapping[str | int, Any], source: str) -> dict[str, Any]:
    """What MMPose's description of a data set says, as it is written or as MMPose keeps it."""
    try:
        if "keypoint_info" in metainfo:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                metainfo = parse_pose_metainfo({"joint_weights": [], **metainfo})
        return _checked(dict(_of_parsed(metainfo)))
    except MetadataError as error:
        raise ConfigError(f"{source}: {error}") from error
    except Exception as error:  # of whatever stands there in place of a description
        raise ConfigError(
            f"{source}: expected MMPose's description of keypoints, found none that can be read "
            f"({last_line(error)}); correct it"
        ) from error


def _of_parsed(metainfo: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    if name := metainfo.get("dataset_name"):
        yield "dataset", str(name)
    names = metainfo.get("keypoint_id2name")
    if names is not None:
        yield "keypoint_names", tuple(names[index] for index in range(len(names)))
    if "flip_indices" in metainfo:
        swaps = [int(index) for index in metainfo["flip_indices"]]
        if any(swaps[other] != index for index, other in enumerate(swaps)):
            raise MetadataError(
                f"expected keypoints that swap with one another, found {quoted(swaps)}; correct it"
            )
        yield "flip_pairs", tuple((i, other) for i, other in enumerate(swaps) if i < other)
    if "skeleton_links" in metainfo:
        yield "skeleton", tuple((int(a), int(b)) for a, b in metainfo["skeleton_links"])
    if len(sigmas := metainfo.get("sigmas", ())):
        yield "oks_sigmas", tuple(map(_shortest, sigmas))


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    problems = [
        f"{field}: expected {RULES[field].expected}, found {quoted(value)}"
        for field, value in values.items()
        if not RULES[field].holds(value)
    ]
    if problems:
        raise MetadataError(f"{'; '.join(problems)}; correct it")
    return values


def _require_agreement(sources: Sequence[Said]) -> None:
    """Raises ConfigError on what two sources say differently."""
    for field in FIELDS:
        told = [said for said in sources if field in said.values]
        for first, second in itertools.pairwise(told):
            one, other = (_comparable(field, said.values[field]) for said in (first, second))
            if one != other:
                only_one, only_other = (
                    ", ".join(str(item) for item in some if item not in others) or "fewer"
                    for some, others in ((one, other), (other, one))
                )
                raise ConfigError(
                    printable(
                        f"{field}: expected the same in {first.source} and in {second.source}, "
                        f"found {only_one[:SHOWN]} in the first and {only_other[:SHOWN]} in the "
                        "second; correct one of them"
                    )
                )


def _comparable(field: str, value: Any) -> list[Any]:
    """What is equal where two sources say the same: pairs in any order, sigmas in float32."""
    if field in ("skeleton", "flip_pairs"):
        return sorted({tuple(sorted(pair)) for pair in value})
    if field == "oks_sigmas":
        value = map(_shortest, value)
    return [f"{item} ({index})" for index, item in enumerate(value)]


def _shortest(value: float) -> float:
    """The shortest number that float32 keeps as this one: what somebody wrote, before MMPose."""
    return float(str(np.float32(value)))
