"""Trains the demonstration model on drawn people: `python -m cigpose_export.drawn.train FILE.pth`.

Every batch is new: its pictures are drawn from the seed and the number of the batch, cut out and
jittered by MMPose's own transforms. The loss is MMPose's KLDiscretLoss, on the outputs and on the
initial logits by which the intervention chooses. What is saved is the moving average of the
weights, in the form in which MMEngine's runner saves it; the log lies beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from cigpose_export.checkpoints.load import DEMO_MARK
from cigpose_export.drawn.scene import draw_scene
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_export.openmmlab import (
    Config,
    GetBBoxCenterScale,
    RandomBBoxTransform,
    SimCCLabel,
    TopdownAffine,
    mmengine_version,
)
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime.files import appears_whole

ITERATIONS = 8500
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
WARM_UP = 200
AVERAGE = 0.998
INITIAL_LOSS_WEIGHT = 0.5
LEAST_KEYPOINTS = 3
LOG_EVERY = 50
SAVE_EVERY = 1000

Batch = dict[str, Tensor]


class DrawnBatches(Dataset[Batch]):
    """Batch i: `input` (B,3,h,w) float32 as the backbone takes it, `x` and `y` (B,K,bins) SimCC
    labels, `weight` (B,K)."""

    def __init__(self, config: Config, seed: int, batches: int) -> None:
        self.seed, self.batches = seed, batches
        codec = {key: value for key, value in config.codec.items() if key != "type"}
        self.codec = SimCCLabel(**codec)
        preprocessor = config.model.data_preprocessor
        self.mean, self.std = (np.float32(preprocessor[key]) for key in ("mean", "std"))
        self.steps = [
            GetBBoxCenterScale(padding=config.box_padding),
            RandomBBoxTransform(
                shift_factor=0.04, scale_factor=(0.92, 1.1), rotate_factor=10, rotate_prob=0.2
            ),
            TopdownAffine(input_size=config.codec.input_size),
        ]

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Batch:
        cv2.setNumThreads(1)
        np.random.seed((self.seed * 1_000_003 + index) % 2**32)
        rows = [row for row, _ in zip(self._people(index), range(BATCH), strict=False)]
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        return {
            name: torch.from_numpy(column)
            for name, column in zip(("input", "x", "y", "weight"), columns, strict=True)
        }

    def _people(self, index: int) -> Iterator[tuple[NDArray[np.float32], ...]]:
        number = 0
        while True:
            scene = draw_scene([self.seed, index, number])
            number += 1
            for person in scene.people:
                seen = (person.visibility > 0).astype(np.float32)
                if seen.sum() < LEAST_KEYPOINTS:
                    continue
                sample: dict[str, Any] = {
                    "img": scene.picture,
                    "bbox": np.array([person.box_xyxy], np.float32),
                    "keypoints": person.keypoints[None].astype(np.float32),
                    "keypoints_visible": seen[None],
                }
                for step in self.steps:
                    sample = step.transform(sample)
                labels = self.codec.encode(sample["transformed_keypoints"], seen[None])
                rgb = (sample["img"][..., ::-1] - self.mean) / self.std
                yield (
                    np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32),
                    labels["keypoint_x_labels"][0].astype(np.float32),
                    labels["keypoint_y_labels"][0].astype(np.float32),
                    labels["keypoint_weights"][0].astype(np.float32),
                )


def train(project: Project, checkpoint: Path, *, seed: int, iterations: int) -> None:
    """Trains from nothing; saves the averaged model, and every now and then what it is so far."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the other core draws
    config = load_config(project.config_path(DEMO.name))
    model = build_reference(config).requires_grad_(True).train()
    model.init_weights()
    model.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    average = get_ema_multi_avg_fn(AVERAGE)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        (decayed if parameter.ndim > 1 else others).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}]
    )
    batches = DrawnBatches(config, seed, iterations)
    started, losses = time.monotonic(), []
    with (
        checkpoint.with_suffix(".log.jsonl").open("w", encoding="utf-8") as lines,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)  # of MMEngine's use of torch
        for iteration, batch in enumerate(
            DataLoader(batches, None, num_workers=1, prefetch_factor=4)
        ):
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(iteration, iterations)
            loss = _loss(model, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
            optimizer.step()
            averaged.update_parameters(model)
            losses.append(loss.item())
            if (iteration + 1) % LOG_EVERY == 0:
                line = {
                    "iteration": iteration + 1,
                    "loss": round(float(np.mean(losses)), 5),
                    "learning_rate": round(_learning_rate(iteration, iterations), 7),
                    "seconds": round(time.monotonic() - started, 1),
                }
                losses.clear()
                lines.write(json.dumps(line) + "\n")
                lines.flush()
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            if (iteration + 1) % SAVE_EVERY == 0 or iteration + 1 == iterations:
                _save(averaged, checkpoint, seed, iteration + 1)


def _loss(model: Any, batch: Batch) -> Tensor:
    pictures = batch["input"].contiguous(memory_format=torch.channels_last)
    initial, final = model.head.both_predictions(model.backbone(pictures))
    labels = batch["x"], batch["y"]
    measure = model.head.loss_module
    loss: Tensor = measure(final, labels, batch["weight"])
    return loss.add(measure(initial, labels, batch["weight"]), alpha=INITIAL_LOSS_WEIGHT)


def _learning_rate(iteration: int, iterations: int) -> float:
    """A short ramp up, then a cosine down to a hundredth."""
    if iteration < WARM_UP:
        return LEARNING_RATE * (iteration + 1) / WARM_UP
    return LEARNING_RATE * (0.01 + 0.99 * (1 + math.cos(math.pi * iteration / iterations)) / 2)


def _save(averaged: AveragedModel, checkpoint: Path, seed: int, iteration: int) -> None:
    weights = OrderedDict(
        (key, value.clone(memory_format=torch.contiguous_format))
        for key, value in averaged.module.state_dict().items()
    )
    meta = {
        DEMO_MARK: True,
        "seed": seed,
        "iter": iteration,
        "mmengine_version": mmengine_version,
    }
    with appears_whole(checkpoint) as file:
        torch.save({"meta": meta, "state_dict": weights}, file)


def main() -> None:
    """Trains and saves."""
    parser = argparse.ArgumentParser(description="Trains the demonstration model.")
    parser.add_argument("checkpoint", type=Path, metavar="FILE.pth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    args = parser.parse_args()
    train(Project.of_this_clone(), args.checkpoint, seed=args.seed, iterations=args.iterations)


if __name__ == "__main__":
    main()
