"""From a config file to the reference model, built through MMPose's registry."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from cigpose_export.errors import ConfigError
from cigpose_export.openmmlab import MODELS, Config, DefaultScope
from cigpose_runtime.errors import last_line

HEAD_NAMES = ("CIGHead", "CausalGraphHead")


def register_head() -> str:
    """Registers the head with MMPose under both its names; returns where the head comes from.

    A CIGPose fork of MMPose registers the head itself: then that one is the reference, and only
    the name that the fork leaves out is added.
    """
    head = MODELS.get("CIGHead") or MODELS.get("CausalGraphHead")
    if head is None:
        from cigpose_export.modeling.cig_head import CIGHead

        head = CIGHead
    for name in HEAD_NAMES:
        if name not in MODELS:
            MODELS.register_module(name=name, module=head)
    return f"{head.__module__}.{head.__qualname__}"


def load_config(path: Path) -> Config:
    """Reads an MMEngine config and checks what the export relies on.

    Raises `ConfigError` for a missing or unreadable file, a loop in `_base_`, a split ratio that
    is not positive, and parts that contradict each other.
    """
    if not path.is_file():
        raise ConfigError(f"no config at {path}: run from a clone that has configs/")
    try:
        config = Config.fromfile(path)
    except Exception as error:
        # MMEngine keeps a file open per level of _base_: a loop exhausts the stack or the files.
        if isinstance(error, RecursionError) or getattr(error, "errno", None) == errno.EMFILE:
            raise ConfigError(
                f"{path}: its _base_ files include each other in a loop; remove one of the includes"
            ) from None
        raise ConfigError(
            f"{path} is not a loadable MMEngine config ({last_line(error)}); fix it"
        ) from error
    try:
        problems = _contradictions(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problems = [f"a part is missing or of the wrong type ({error})"]
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}; correct the config")
    return config


def _contradictions(config: Config) -> list[str]:
    missing = [key for key in ("model", "codec", "box_padding") if key not in config]
    if missing:
        return [f"missing at the top level: {', '.join(missing)}"]
    head, codec = config.model.head, config.codec
    problems = []
    for owner, ratio in (("head", head.simcc_split_ratio), ("codec", codec.simcc_split_ratio)):
        if not ratio > 0:
            problems.append(f"{owner}: expected simcc_split_ratio > 0, found {ratio}")
    if head.simcc_split_ratio != codec.simcc_split_ratio:
        problems.append(
            f"simcc_split_ratio is {head.simcc_split_ratio} in the head "
            f"and {codec.simcc_split_ratio} in the codec"
        )
    if tuple(head.input_size) != tuple(codec.input_size):
        problems.append(f"input_size is {head.input_size} in the head, {codec.input_size} in codec")
    used = [i for pair in head.keypoint_connections for i in pair]
    used += [i for group in head.keypoint_groups for i in group]
    if used and not 0 <= min(used) <= max(used) < head.out_channels:
        problems.append(
            f"the graph names keypoints {min(used)} to {max(used)}, "
            f"but out_channels is {head.out_channels}"
        )
    return problems


def build_reference(config: Config) -> Any:
    """Builds the MMPose estimator (a module) of a config, in eval mode, weights not loaded.

    Raises `ConfigError` when the config asks for a part that MMPose cannot build.
    """
    register_head()
    try:
        # MMEngine's own base classes look the other parts up in the scope that is set.
        with DefaultScope.overwrite_default_scope("mmpose"):
            model = MODELS.build(config.model)
    except Exception as error:
        raise ConfigError(
            f"{config.filename}: MMPose cannot build the model ({last_line(error)}); "
            "correct the config"
        ) from error
    return model.eval().requires_grad_(False)
