"""Pictures to label, and what label made of them."""

from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from cigpose_runtime import cli
from cigpose_runtime.media.video import Frame
from cigpose_runtime.media.video_writer import VideoWriter
from tiny_onnx import tiny_model


def make_model(path, *, num_keypoints=133):
    path.write_bytes(tiny_model(num_keypoints=num_keypoints, seed=3).SerializeToString())
    return path


def make_pictures(folder, count):
    """Pictures in folders of three, no two alike."""
    for index in range(count):
        path = folder / f"{index // 3}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (40 + index, 60, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def make_clip(path, count):
    rate = Fraction(25)
    with VideoWriter(path, rate=rate) as writer:
        for index in range(count):
            pixels = np.full((60, 80, 3), 40 + 3 * index, np.uint8)
            writer.write(Frame(pixels, index, index, 1 / rate))
    return path


def make_sources(folder, pictures):
    """Arguments of label: a model, so many pictures and one that is none, a clip; 3 in a shard."""
    make_pictures(folder / "pictures", pictures)
    (folder / "pictures" / "bad.jpg").write_bytes(b"no picture")
    make_clip(folder / "pictures" / "clip.mp4", 5)
    return [
        *(make_model(folder / "tiny.onnx"), folder / "pictures"),
        *("--whole-frame", "--shard-size", 3),
    ]


def label(*arguments):
    """Runs the command in this process; returns its exit status."""
    return cli.main(["label", *map(str, arguments)])


def rows(folder):
    """All rows of all shards, in order, as dictionaries."""
    shards = sorted(folder.glob("shard-*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]
