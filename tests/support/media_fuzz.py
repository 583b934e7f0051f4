"""Damaged pictures and videos, read in a child process with limits.

`python media_fuzz.py KIND FOLDER FIRST COUNT` is the child: it reads the seeds that lie in FOLDER,
damages them as the number of each case says, and ends with a line of JSON. `campaign` starts
children, one after the other, until all cases are done, and says what went wrong in which.
"""

import json
import random
import signal
import struct
import subprocess
import sys
import traceback
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from pathlib import Path

from fuzzing import CPU_S, MEMORY, peak_memory

SIZES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight things wrong: bits, numbers, pieces lost, doubled or of `other`."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place = rng.randrange(max(1, len(out) if rng.random() < 0.5 else min(len(out), 200)))
        length = rng.choice((1, 2, 4, 16, 200))
        match rng.randrange(8):
            case 0:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 1 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 2:
                form = rng.choice(("B", "<H", ">H", "<I", ">I"))
                number = struct.pack(
                    form, rng.choice(SIZES) & ((1 << 8 * struct.calcsize(form)) - 1)
                )
                out[place : place + len(number)] = number
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = out[place : place + length] * rng.choice((1, 1, 50))
            case 5:
                out[place:place] = rng.randbytes(length)
            case 6:
                start = rng.randrange(max(1, len(other)))
                out[place : place + length] = other[start : start + length]
            case 7 if rng.random() < 0.3:
                del out[place:]
    return bytes(out)


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that a reader looks for, as far as it has chunks."""
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, place)
        end = place + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[place + 4 : end]))
        place = end + 4
    return bytes(out)


def write_pictures(folder: Path) -> None:
    """Small pictures of all forms that are read."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    rgb = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    alpha = rgb.copy()
    alpha.putalpha(128)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    plugins = []
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
        plugins.append((rgb, "HEIF", {"exif": exif.tobytes()}))
    with suppress(ImportError):
        import_module("pillow_jxl")
        plugins.append((rgb, "JXL", {}))
    grey, palette, cmyk, bits = (rgb.convert(mode) for mode in ("L", "P", "CMYK", "1"))
    for number, (picture, form, options) in enumerate(
        [
            *[(some, "PNG", {}) for some in (rgb, grey, palette, alpha, deep, bits)],
            (rgb, "PNG", {"exif": exif}),
            *[(some, "JPEG", {}) for some in (rgb, grey, cmyk)],
            (rgb, "JPEG", {"exif": exif, "progressive": True, "quality": 95, "subsampling": 0}),
            *[(some, "BMP", {}) for some in (rgb, grey, palette, bits, alpha)],
            *[(some, "GIF", {}) for some in (grey, palette)],
            (palette, "GIF", {"save_all": True, "append_images": [palette.rotate(180)]}),
            *[(some, "TIFF", {}) for some in (rgb, grey, palette, alpha, deep, cmyk, bits)],
            *[
                (rgb, "TIFF", {"compression": f"tiff_{kind}", "exif": exif})
                for kind in ("lzw", "adobe_deflate", "jpeg")
            ],
            *[(rgb, "TIFF", {"compression": kind}) for kind in ("packbits", "zstd", "tiff_lzma")],
            (bits, "TIFF", {"compression": "group4"}),
            (rgb, "WEBP", {"exif": exif}),
            (alpha, "WEBP", {"lossless": True}),
            (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(180)]}),
            (rgb, "AVIF", {"exif": exif}),
            (alpha, "AVIF", {}),
            *plugins,
        ]
    ):
        picture.save(folder / f"{number:02d}.{form.lower()}", form, **options)


def write_videos(folder: Path) -> None:
    """Small clips in containers and codecs of all kinds, some with sound."""
    import av
    import numpy as np

    for name, codec, pixels, sound in [
        ("h264.mp4", "libx264", "yuv420p", "aac"),
        ("mpeg4.mov", "mpeg4", "yuv420p", "pcm_s16le"),
        ("vp9.webm", "libvpx-vp9", "yuv420p", None),
        ("h264.mkv", "libx264", "yuv420p", "ac3"),
        ("mpeg4.avi", "mpeg4", "yuv420p", "pcm_s16le"),
        ("ffv1.nut", "ffv1", "yuv420p", None),
        ("h264.ts", "libx264", "yuv420p", "mp2"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p", "mp2"),
        ("flv1.flv", "flv1", "yuv420p", None),
        ("wmv2.wmv", "wmv2", "yuv420p", None),
        ("mjpeg.avi", "mjpeg", "yuvj420p", None),
        ("png.mov", "png", "rgb24", None),
        ("raw.avi", "rawvideo", "bgr24", None),
        ("a.gif", "gif", "rgb8", None),
        ("a.h264", "libx264", "yuv420p", None),
        ("a.mjpeg", "mjpeg", "yuvj420p", None),
        ("vp8.ivf", "libvpx", "yuv420p", None),
        ("mpeg2.mxf", "mpeg2video", "yuv420p", None),
    ]:
        with av.open(str(folder / name), "w") as container:
            container.metadata["title"] = "a title"
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            heard = container.add_stream(sound, rate=44100) if sound else None
            rng = np.random.default_rng(0)
            for _ in range(6):
                picture = rng.integers(0, 255, (48, 64, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if heard is not None:
                frame = av.AudioFrame(format="s16", layout="stereo", samples=4410)
                frame.sample_rate = 44100
                container.mux(heard.encode(frame))
                container.mux(heard.encode(None))


def read_picture(path: Path, _number: int) -> None:
    """As `image` does."""
    from cigpose_runtime.media.images import read_image

    pixels = read_image(path)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype.name == "uint8"


def read_video(path: Path, number: int) -> None:
    """As `video` does, every fourth time with --save."""
    from cigpose_runtime.media.video import VideoReader
    from cigpose_runtime.media.video_writer import VideoWriter

    with VideoReader(path) as reader:
        assert isinstance(reader.rate, Fraction)
        if number % 4:
            for frame in reader:
                assert frame.seconds == frame.seconds
            return
        target = path.with_name("out.mp4")
        with VideoWriter(target, rate=reader.rate, audio_from=path) as writer:
            for frame in reader:
                writer.write(frame)


KINDS = {"pictures": (write_pictures, read_picture), "videos": (write_videos, read_video)}


@dataclass
class Found:
    """What a campaign found: outcomes by their count, and what should not be, a line a case."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    most_memory: int = 0


def campaign(kind: str, folder: Path, count: int) -> Found:
    """Goes through `count` cases in children; `folder` takes the seeds and the damaged files."""
    write_seeds, _ = KINDS[kind]
    (folder / "seeds").mkdir(parents=True)
    write_seeds(folder / "seeds")
    found, first = Found(), 0
    while first < count:
        command = [sys.executable, __file__, kind, str(folder), str(first), str(count - first)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = child.stdout.splitlines()
        last = json.loads(lines[-1]) if child.returncode == 0 else {}
        for line in lines[:-1] if last else lines:
            number, outcome = line.split(" ", 1)
            first = int(number) + 1
            found.outcomes[outcome.partition(":")[0]] += 1
            if outcome.startswith("traceback"):
                found.wrong.append(line)
        if last:
            found.most_memory = max(found.most_memory, last["memory"])
            if last["memory"] > MEMORY:
                found.wrong.append(f"{first - 1} took {last['memory'] >> 20} MB")
        else:
            said = child.stderr.strip().splitlines() or [""]
            found.wrong.append(f"{first} ended the process ({child.returncode}): {said[-1]}")
            first += 1
    return found


def main(kind: str, folder: Path, first: int, count: int) -> None:
    """The child. A case of over CPU_S seconds ends it by SIGPROF, and so do crashes of decoders."""
    from cigpose_runtime.errors import CigposeError

    _, read = KINDS[kind]
    seeds = [(path.name, path.read_bytes()) for path in sorted((folder / "seeds").iterdir())]
    for number in range(first, first + count):
        rng = random.Random(number)
        name, data = seeds[number % len(seeds)]
        data = damaged(data, rng.choice(seeds)[1], rng)
        if name.endswith(".png") and number % 2:
            data = with_checksums(data)
        path = folder / name
        path.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            read(path, number)
            outcome = "read"
        except CigposeError as error:
            outcome = "refused" if "\n" not in str(error) else f"traceback: lines {error!r}"
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"traceback: {error!r:.200} at {where.filename}:{where.lineno}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(number, outcome.replace("\n", " "), flush=True)
        memory = peak_memory()
        if memory > MEMORY:
            break
    print(json.dumps({"memory": memory}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
