"""Checkpoints in the very form of the published ones, with seeded values instead of trained ones.

They exist so that everything can run where the real files cannot be fetched. They carry a mark
(`load.SYNTHETIC_MARK`) and can never pass for real ones.

Values: weights are normal with variance 1 / fan-in. The statistics of the batch norms are
measured, as training measures them, on seeded pictures with the spectrum of natural ones, so that
activations keep a sane scale through all layers. Measuring runs in float64 and the result is
rounded to 12 bits: the same bytes come out whatever the thread count or instruction set.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from cigpose_export import __version__
from cigpose_export.checkpoints.load import SYNTHETIC_MARK
from cigpose_export.modeling.build import build_reference, load_config, require_runs
from cigpose_export.openmmlab import Config, HistoryBuffer, mmengine_version
from cigpose_export.project import Model, Project
from cigpose_runtime.files import appears_whole

SEED = 0
STATISTICS_BITS = 12
GAINS = {
    "initial_pred_x": 3,  # distinct peaks, so that confidences differ between keypoints
    "initial_pred_y": 3,
    "aggregate_linear": 0.2,  # it reads sums over all groups: keeps the sigmoid from saturating
    "cls_gx": 2,  # logits of a standard deviation near 1
    "cls_gy": 2,
}
"""Of linear layers, where they differ from 1."""

OCTAVES = (128, 64, 32, 16, 8, 4, 2, 1)
"""Cell sizes in pixels of the noise that is summed to a picture: equal power per octave."""


def synthesize(project: Project, model: Model, *, seed: int = SEED) -> None:
    """Writes the synthetic checkpoint of a model, replacing what is there."""
    config = load_config(project.config_of(model))
    estimator = build_reference(config)
    require_runs(estimator, config)
    with torch.no_grad():
        draw_values(estimator, f"{seed}/{model.name}")
        measure_statistics(estimator, config, seed)
    with appears_whole(project.checkpoint_path(model.name, "synthetic")) as file:
        try:
            torch.save(runner_file(estimator, config, model.name, seed), file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, under torch's own words
                raise error.__context__ from None
            raise


def draw_values(model: nn.Module, stream: str) -> None:
    """Fills parameters and buffers with values that depend on `stream` and their key alone."""
    for key, tensor in model.state_dict().items():
        digest = hashlib.sha256(f"{stream}/{key}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        tensor.copy_(_value(key, tuple(tensor.shape), rng))


def _value(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    def normal(std: float) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(std))

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))

    *_, module, leaf = key.split(".")
    if leaf == "num_batches_tracked":
        return torch.tensor(1000)
    if leaf == "bias":
        return normal(0.1)
    if module in GAINS:
        return normal(GAINS[module] * shape[1] ** -0.5)
    if module == "canonical_features":
        return normal(1)
    if leaf in ("gamma", "beta"):
        return normal(0.3)
    if len(shape) > 1:
        return normal(math.prod(shape[1:]) ** -0.5)
    if leaf in ("g", "scale"):
        return uniform(0.8, 1.2)
    # Gains of batch norms: small, and smaller at the end of a residual branch, so that small
    # differences between inputs do not grow from layer to layer.
    return uniform(0.15, 0.3) if ".blocks." in key and "pointwise" in key else uniform(0.4, 0.6)


def measure_statistics(model: Any, config: Config, seed: int) -> None:
    """Sets the running statistics of all batch norms from one pass over seeded pictures.

    A neck, which no published variant has, joins features of several strides, and few pictures say
    too little of its sums: with 2, rounding moves the outputs of RTMW-m by 3e-4, with 8 by 4e-5.
    """
    pictures = 8 if model.with_neck else 2
    generator = torch.Generator().manual_seed(seed)
    width, height = config.codec.input_size
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.double().train()
    for norm in norms:
        norm.momentum = 1.0
    model.head(model.extract_feat(natural_noise(pictures, height, width, generator)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(_round_to_bits(statistic, STATISTICS_BITS))
    model.float().eval()


def natural_noise(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Pictures (count,3,h,w) float64, normalised as the model's input is, of rising contrast."""
    octaves = [
        F.interpolate(
            torch.randn(
                count,
                3,
                height // cell + 1,
                width // cell + 1,
                generator=generator,
                dtype=torch.float64,
            ),
            size=(height, width),
            mode="bilinear",
        )
        for cell in OCTAVES
    ]
    picture = torch.stack(octaves).sum(dim=0)
    contrast = torch.arange(1, count + 1, dtype=torch.float64).reshape(-1, 1, 1, 1)
    # What black and white pixels become under the ImageNet mean and deviation.
    return (picture / picture.std() * contrast).clamp(-2.2, 2.7)


def _round_to_bits(values: Tensor, bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


def runner_file(model: nn.Module, config: Config, name: str, seed: int) -> dict[str, Any]:
    """What MMEngine's runner saves: meta, weights, message hub, optimizer, schedulers, EMA copy."""
    weights = OrderedDict(model.state_dict())
    parameters = dict(model.named_parameters())
    # The EMA hook swaps on saving: `state_dict` holds the averaged weights, the copy the raw ones.
    raw = {f"module.{key}": v * 1.001 if v.is_floating_point() else v for key, v in weights.items()}
    # Real moments are as large as the weights; these share one storage to spare the disk.
    moments = torch.zeros(max(p.numel() for p in parameters.values()))
    loss, rate = HistoryBuffer(), HistoryBuffer()
    for step in range(3):
        loss.update(1.0 / (step + 1))
        rate.update(4e-5)
    return {
        "meta": {
            "epoch": 420,
            "iter": 1000,
            "cfg": config.pretty_text,
            "seed": seed,
            "experiment_name": name,
            "time": "20250101_000000",
            "mmengine_version": mmengine_version,
            "hook_msgs": {"best_score": np.float64(0.5), "best_ckpt": f"{name}.pth"},
            SYNTHETIC_MARK: {"seed": seed, "by": f"cigpose-tools {__version__}"},
        },
        "state_dict": weights,
        "message_hub": {
            "log_scalars": OrderedDict({"train/loss": loss, "train/lr": rate}),
            "runtime_info": OrderedDict(iter=999, epoch=419, max_iters=1000, max_epochs=420),
            "resumed_keys": OrderedDict({"train/loss": True, "train/lr": True}),
        },
        "optimizer": {
            "state": {
                index: {
                    "step": torch.tensor(1000.0),
                    "exp_avg": moments[: p.numel()].view(p.shape),
                    "exp_avg_sq": moments[: p.numel()].view(p.shape),
                }
                for index, p in enumerate(parameters.values())
            },
            "param_groups": [
                {
                    "lr": 4e-5,
                    "betas": (0.9, 0.999),
                    "eps": 1e-8,
                    "weight_decay": 0.05,
                    "initial_lr": 4e-3,
                    "params": list(range(len(parameters))),
                }
            ],
        },
        "param_schedulers": [{"last_step": 1000, "_global_step": 1001, "verbose": False}],
        "ema_state_dict": OrderedDict({"steps": torch.tensor(1000), **raw}),
    }
