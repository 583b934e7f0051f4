"""Checkpoint files as no training writes them, by seed: bytes, pickles, weights, config texts.

Run as a program, for a test to hold the limits, as model_fuzz is. "0 wrong bytes" is held where a
file has checksums: what is read of a damaged ZIP is what was written.
"""

import io
import json
import pickletools
import random
import re
import struct
import sys
import tempfile
import zipfile
from itertools import pairwise
from pathlib import Path

import torch

from cigpose_export.checkpoints.compare_config import require_same_model
from cigpose_export.checkpoints.load import Checkpoint, load_checkpoint, load_weights
from cigpose_export.modeling.build import build_reference, load_config
from cigpose_runtime.errors import CigposeError
from fuzzing import Cases, spoilt
from tiny_project import make_tiny_project, tiny_name

LONGEST = 4_000
"""Characters of a message. Those of many keys name three and count the rest."""


def main(kind, seed_path, first, count):
    """Runs cases by seed and prints what came of them."""
    torch.set_num_threads(1)
    cases = Cases()
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder))
        for seed in range(first, first + count):
            Path(seed_path).write_text(str(seed))
            run = KINDS[kind](target, random.Random(f"{kind} {seed}"))
            with cases.case(seed) as count_status:
                count_status(_outcome(run))
    cases.report()


class Target:
    """The tiny variant that files are loaded for, and whole files to begin with."""

    def __init__(self, folder):
        project = make_tiny_project(folder / "project")
        self.config = load_config(project.config_path(tiny_name()))
        self.config_text = self.config.pretty_text
        self.path = folder / "checkpoint.pth"
        torch.manual_seed(0)
        self.weights = dict(build_reference(self.config).state_dict())
        self.few = {
            "head.weight": torch.randn(3, 4),
            "head.scale": torch.tensor(2.0),
            "norm.num_batches_tracked": torch.tensor(7),
            "head.half": torch.randn(5).half(),
        }
        self.few["head.shared"] = self.few["head.weight"].T[1:]
        content = {
            "meta": {"epoch": 3, "cfg": "x = 1", "dataset_meta": {"keypoint_names": ["nose"]}},
            "state_dict": self.few,
            "message_hub": {"best": 0.5, "step": [1, (2, 3)]},
        }
        self.zip = _saved(content)
        self.legacy = _saved(content, legacy=True)
        self.safetensors = _as_safetensors(self.few)
        with zipfile.ZipFile(io.BytesIO(self.zip)) as archive:
            (self.pickle_name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            self.pickle = archive.read(self.pickle_name)

    def load(self, content):
        """Loads a file and touches all that it holds."""
        self.path.write_bytes(content)
        checkpoint = load_checkpoint(self.path)
        for value in checkpoint.state_dict.values():
            if value.numel() < 1_000_000:
                value.flatten().contiguous().view(torch.uint8).sum()
        return checkpoint


def _saved(content, *, legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _as_safetensors(weights):
    names = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for key, value in weights.items():
        raw = value.contiguous().numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        shape = list(value.shape)
        header[key] = {"dtype": names[value.dtype], "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _outcome(run):
    """What became of a case: its error's type, or what it says."""
    try:
        said = run() or "is read"
    except CigposeError as error:
        if not str(error).isprintable() or len(str(error)) > LONGEST or "; " not in str(error):
            raise AssertionError(f"no message of ours: {str(error)[:LONGEST]!r}") from error
        return type(error).__name__
    return said


# What is changed


def changed_bytes(target, rng):
    """Bits flipped, pieces cut, doubled or replaced in files of each container."""
    name = rng.choice(["zip", "legacy", "safetensors"])
    content = spoilt(getattr(target, name), rng, lengths=(1, 2, 8, 100, 1000), ways=5)

    def run():
        found = target.load(content).state_dict
        if name == "zip":
            same = found.keys() == target.few.keys() and all(
                found[key].shape == value.shape and torch.equal(found[key], value)
                for key, value in target.few.items()
            )
            if not same:
                raise AssertionError("other weights than were written")
        return f"{name} is read"

    return run


LETTERS = [
    *(b")", b"]", b"}", b"(", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"0", b"1", b"2"),
    *(b"R", b"b", b"Q", b"N", b"\x88", b"\x89", b"\x81", b"a", b"d", b"l", b"\x80\x04", b"."),
    *(b"K\x00", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\xff", b"J\x00\x00\x00\x80", b"I1\n"),
    *(b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"\x8b\xff\xff\xff\x7f", b"G" + b"\x7f\xf8" + bytes(6)),
    *(b"h\x00", b"h\x05", b"j\x00\x00\x01\x00", b"q\x00", b"q\x05", b"r\xff\xff\xff\x7f"),
    *(b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\xff", b"X\x02\x00\x00\x00\xed\xa0", b"U\x03abc"),
    *(b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\ndevice\n"),
    *(b"ctorch\nDoubleStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cnumpy\ndtype\n"),
    *(b"c__builtin__\nbytearray\n", b"c\x1b[2J\nx\n", b"c_codecs\nencode\n", b"cbuiltins\nset\n"),
]


def changed_pickle(target, rng):
    """Operations of the pickle removed, doubled, moved or replaced; its checksum is right."""
    cuts = [position for _, _, position in pickletools.genops(target.pickle)]
    cuts.append(len(target.pickle))
    steps = [target.pickle[a:b] for a, b in pairwise(cuts)]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, other = rng.randrange(1, len(steps)), rng.randrange(1, len(steps))
        match rng.randrange(5):
            case 0:
                del steps[at]
            case 1:
                steps.insert(other, steps[at])
            case 2:
                steps[at], steps[other] = steps[other], steps[at]
            case 3:
                steps[at] = rng.choice(LETTERS)
            case 4:
                steps.insert(at, rng.choice(LETTERS) * rng.choice([1, 1, 3, 1000]))
    changed = b"".join(steps)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(target.zip)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed if name == target.pickle_name else old.read(name))
    content = buffer.getvalue()
    if rng.random() < 0.3:
        content = target.legacy.replace(_legacy_pickle(target), changed, 1)
    return lambda: target.load(content) and "a pickle is read"


def _legacy_pickle(target):
    """The third pickle of a legacy file, after the magic number and the protocol, the machine."""
    start = 0
    for _ in range(3):
        *_, (_, _, last) = pickletools.genops(target.legacy[start:])
        start += last + 1
    *_, (_, _, last) = pickletools.genops(target.legacy[start:])
    return target.legacy[start : start + last + 1]


ODD_TENSORS = [
    *(torch.tensor(1.0), torch.zeros(0), torch.zeros(1), torch.zeros(3, 0, 2), torch.ones(1, 1)),
    *(torch.tensor([float("nan")]), torch.tensor([1e300], dtype=torch.float64)),
    *(torch.zeros(17, dtype=torch.complex64), torch.zeros(17, dtype=torch.int64)),
    *(torch.zeros(17, dtype=torch.bool), torch.zeros(17, dtype=torch.bfloat16)),
    *(torch.zeros(1).expand(10**9), torch.zeros([1] * 16), torch.zeros(17, dtype=torch.uint8)),
    *(torch.zeros(17).to(torch.float8_e4m3fn), torch.zeros(2, 3).to_sparse(), None, "x", 3, [1]),
]
NAMES = [
    *("head.final_layer.weight", "data_preprocessor.mean", "data_preprocessor.std", "items", "get"),
    *("", "x" * 500, "head", "\x1b[2J", "a\nb", "module.module.x", "_orig_mod."),
]


def changed_weights(target, rng):
    """Weights of the tiny model: some missing, of other names, kinds, shapes or containers."""
    weights = dict(target.weights)
    for _ in range(rng.choice([1, 1, 2, 5])):
        key = rng.choice(list(weights))
        match rng.randrange(6):
            case 0:
                del weights[key]
            case 1:
                weights[rng.choice(NAMES)] = weights.pop(key)
            case 2:
                weights[rng.choice([key, rng.choice(NAMES)])] = rng.choice(ODD_TENSORS)
            case 3 if isinstance(weights[key], torch.Tensor) and weights[key].dim():
                weights[key] = rng.choice([weights[key][:1], weights[key][None], weights[key].T])
            case 4 if isinstance(weights[key], torch.Tensor) and not weights[key].is_sparse:
                weights[key] = weights[key].to(rng.choice([torch.float16, torch.float64]))
            case _:
                prefix = rng.choice(["module.", "_orig_mod.", "ema."])
                weights = {prefix + name: value for name, value in weights.items()}
    content = rng.choice([{"state_dict": weights}, {"model": weights}, weights, {"meta": weights}])
    data = _saved(content, legacy=rng.random() < 0.2)

    def run():
        checkpoint = target.load(data)
        load_weights(build_reference(target.config), checkpoint)
        return "weights are taken"

    return run


PIECES = [
    *("dict(", "(", "[", "{", "'", '"""', "\\", "\0", "\ud800", "\n", "lambda: 0", "*", "**", "="),
    *("__import__('os').system('false')", "{{_base_.x}}", "1e999", "inf", "-", "9" * 5000, "x[0]"),
    *("_delete_=True", "[" * 500, "-" * 5000, "(" * 90, "None", "True", "{}", "'a' * 9", "f'{1}'"),
]


def changed_config(target, rng):
    """The text of a config with pieces removed, doubled, moved, replaced or put in."""
    text = target.config_text
    for _ in range(rng.choice([1, 1, 2, 5])):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([1, 3, 20, 300]))
        match rng.choice([0, 1, 2, 3, 4, 4, 4, 4]):
            case 4:
                numbers = list(re.finditer(r"\b[0-9][0-9.e-]*|'[^']*'|True|False", text))
                old, new = rng.choice(numbers), rng.choice(numbers)[0]
                text = text[: old.start()] + new + text[old.end() :]
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:end] + text[start:end] * rng.choice([1, 1, 200]) + text[end:]
            case 2:
                text = text[:start] + rng.choice(PIECES) + text[start:]
            case 3:
                words = text.split(" ")
                words[rng.randrange(len(words))] = rng.choice([*words, *PIECES])
                text = " ".join(words)
    checkpoint = Checkpoint(target.path, "0" * 64, "real", {}, config_text=text)

    def run():
        said = require_same_model(checkpoint, target.config)
        if said is None:
            return "the same"
        if not said.isprintable() or len(said) > LONGEST:
            raise AssertionError(f"no line: {said[:LONGEST]!r}")
        return "in part"

    return run


KINDS = {
    "bytes": changed_bytes,
    "pickles": changed_pickle,
    "weights": changed_weights,
    "configs": changed_config,
}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
