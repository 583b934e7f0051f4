"""From a config file to the reference model, built through MMPose's registry."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cigpose_export.errors import ConfigError
from cigpose_export.modeling.topdown_simcc import CIG_HEADS, require_topdown_simcc
from cigpose_export.openmmlab import MODELS, Config, DefaultScope, revert_sync_batchnorm
from cigpose_runtime.errors import last_line


def register_head() -> str:
    """Registers the head with MMPose under both its names; returns where the head comes from.

    A CIGPose fork of MMPose registers the head itself: then that one is the reference, and only
    the name that the fork leaves out is added.
    """
    head = MODELS.get("CIGHead") or MODELS.get("CausalGraphHead")
    if head is None:
        from cigpose_export.modeling.cig_head import CIGHead

        head = CIGHead
    for name in CIG_HEADS:
        if name not in MODELS:
            MODELS.register_module(name=name, module=head)
    return class_path(head)


def class_path(kind: type) -> str:
    """Where a class comes from, as it is imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def load_config(path: Path) -> Config:
    """Reads an MMEngine config, which runs it, and checks what the export relies on.

    Raises `ConfigError` for a missing or unreadable file, a loop in `_base_`, another model than a
    top-down SimCC estimator, settings that are not exported, and parts that contradict each other.
    """
    if not path.is_file():
        raise ConfigError(f"no config at {path}: run from a clone that has configs/")
    config = None
    try:
        config = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is code, and may end the process
        # MMEngine keeps a file open per level of _base_: a loop exhausts the stack or the files.
        if not isinstance(error, RecursionError) and getattr(error, "errno", None) != errno.EMFILE:
            raise ConfigError(
                f"{path} is not a loadable MMEngine config ({last_line(error)}); fix it"
            ) from error
    if config is None:  # raised here, where the error and with it thousands of files are let go
        raise ConfigError(
            f"{path}: its _base_ files include each other in a loop; remove one of the includes"
        )
    try:
        problems = require_topdown_simcc(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problems = [f"a part is missing or of the wrong type ({error})"]
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}; correct the config")
    return config


def build_reference(config: Config) -> Any:
    """Builds the MMPose estimator (a module) of a config, in eval mode, weights not loaded.

    Raises `ConfigError` when the config asks for a part that MMPose cannot build.
    """
    register_head()
    try:
        # MMEngine's own base classes look the other parts up in the scope that is set.
        with DefaultScope.overwrite_default_scope("mmpose"):
            model = MODELS.build(_without_mmdet(config.model))
    except Exception as error:
        raise ConfigError(
            f"{config.filename}: MMPose cannot build the model ({last_line(error)}); "
            "correct the config"
        ) from error
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        model = revert_sync_batchnorm(model)  # the same in eval mode; it trains on one CPU, too
    return model.eval().requires_grad_(False)


def require_runs(model: Any, config: Config) -> None:
    """Raises `ConfigError` when a model's parts do not fit each other, as sizes of feature maps."""
    width, height = config.codec.input_size
    expected = [
        (1, config.model.head.out_channels, int(side * config.codec.simcc_split_ratio))
        for side in (width, height)
    ]
    try:
        with torch.inference_mode():
            outputs = model.head(model.extract_feat(torch.zeros(1, 3, height, width)))
        found = [tuple(output.shape) for output in outputs]
    except Exception as error:  # whatever modules raise on inputs that they do not take
        raise ConfigError(
            f"{config.filename}: the model does not run on an input of {width} x {height} "
            f"({last_line(error)}); correct the config"
        ) from error
    if found != expected:
        raise ConfigError(
            f"{config.filename}: expected outputs {expected}, found {found}; correct the config"
        )


def _without_mmdet(part: Any) -> Any:
    """A model's config without the scope of MMDetection: MMPose has a copy of its CSPNeXt."""
    if isinstance(part, dict):
        kept = {key: value for key, value in part.items() if (key, value) != ("_scope_", "mmdet")}
        return {key: _without_mmdet(value) for key, value in kept.items()}
    if isinstance(part, list):
        return [_without_mmdet(value) for value in part]
    return part
