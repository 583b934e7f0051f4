"""Still pictures, in and out, with Pillow."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import FileError, first_line
from cigpose_runtime.files import open_file, output_file, place_to_write

if TYPE_CHECKING:
    from PIL.Image import Image

WRITTEN_FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""By the ending of a name, in Pillow's terms."""

PLUGINS = {
    ".heic": ("pillow_heif", "pillow-heif", "HEIF"),
    ".heif": ("pillow_heif", "pillow-heif", "HEIF"),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin", "JXL"),
}
"""Forms that Pillow reads with a package of its own, if it is installed: the module, what installs
it, and Pillow's term."""

FORMATS = {
    **WRITTEN_FORMATS,
    ".avif": "AVIF",
    **{ending: form for ending, (module, _, form) in PLUGINS.items() if find_spec(module)},
}

SUFFIXES = frozenset(FORMATS)
"""Files of a folder that are taken for pictures."""

READ_FORMATS = sorted({*FORMATS.values(), "GIF"})
"""No file reaches another of Pillow's 40 decoders, whatever its name; the one of PostScript starts
Ghostscript."""

MOST_WEBP_PIXELS = 60_000_000
"""Of other forms it is Pillow's 89 million, 1.3 GB while unpacked; WebP's decoder keeps more
copies."""

_QUALITY = 95

_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281
"""Tags of a TIFF (TIFF 6.0, section 8)."""


def read_image(path: str | PathLike[str]) -> Pixels:
    """A picture as (H, W, 3) uint8 BGR, upright as its EXIF orientation says.

    Grey, palette, alpha (left out), CMYK, 12-bit, 16-bit and float pictures are converted.
    Raises FileError for a file that is none, is damaged, or says that it unpacks to over 89 million
    pixels (of a WebP: 60 million), whose unpacking would take over 1.3 GB of memory.
    """
    with open_file(path, "a picture") as file:
        return decode_image(file, path)


def decode_image(file: BinaryIO, name: str | PathLike[str]) -> Pixels:
    """As read_image, from an open file. name: of the picture, for errors."""
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    _register_plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that are not looked at
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=READ_FORMATS) as picture:
                if picture.format == "WEBP":
                    most = MOST_WEBP_PIXELS
                    if picture.width * picture.height > most:
                        raise Image.DecompressionBombError(f"{picture.width} x {picture.height}")
                return _upright_bgr(picture)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise FileError(
                f"{name}: expected at most {most:,} pixels, found more ({error}); scale the "
                "picture down"
            ) from error
        except Exception as error:  # decoders raise whatever they run into, as zlib.error
            reason = first_line(error).partition(" <")[0]  # not where an object lies in memory
            raise FileError(
                f"{name}: expected a picture ({', '.join(READ_FORMATS)}), but it cannot be read "
                f"({reason}); replace the file"
            ) from error


@cache
def _register_plugins() -> None:
    if "HEIF" in READ_FORMATS:
        import_module("pillow_heif").register_heif_opener()
    if "JXL" in READ_FORMATS:
        import_module("pillow_jxl")  # which registers itself


def _upright_bgr(picture: Image) -> Pixels:
    """Decodes; keeps few copies at once, for they are large."""
    from PIL import ImageOps

    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith(("I", "F")):
        return np.repeat(_grey(picture)[:, :, None], 3, axis=2)
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    # Pillow turns the colours around in a quarter of the time that numpy takes.
    bgr = bytearray(rgb.tobytes("raw", "BGR"))
    return np.frombuffer(bgr, np.uint8).reshape(rgb.height, rgb.width, 3)


def _grey(picture: Image) -> Pixels:
    """(H, W) uint8 of levels of more than 8 bits, or of floats."""
    levels = np.asarray(picture, np.float32)
    white = _white(picture, float(levels.max(where=np.isfinite(levels), initial=0.0)))
    levels = np.nan_to_num(levels, nan=0.0, posinf=white)
    return (levels.clip(0.0, white, out=levels) * (255 / white) + 0.5).astype(np.uint8)


def _white(picture: Image, brightest: float) -> float:
    """The level that is white.

    Floats go up to 1, or to the brightest if that is more. Others have 16 bits, or as many as a
    TIFF says: a camera's 12 come packed, or in 16 with the largest value beside them.
    """
    if picture.mode == "F":
        return max(1.0, brightest)
    tags = getattr(picture, "tag_v2", {})
    white = 2.0 ** min(*tags.get(_BITS_PER_SAMPLE, (16,)), 16) - 1
    largest = float(tags.get(_MAX_SAMPLE_VALUE, (white,))[0])
    return largest if 0 < brightest <= largest < white else white


def write_image(frame: Pixels, path: str | PathLike[str]) -> None:
    """Writes (H, W, 3) uint8 BGR in the form that the file's ending says, whole or not at all.

    Raises FileError for an ending that is none of a picture, and for a folder that cannot be
    written to.
    """
    from PIL import Image

    path = Path(path)
    form = WRITTEN_FORMATS.get(path.suffix.lower())
    if form is None:
        raise FileError(
            f"{path}: expected a name that ends in {', '.join(sorted(WRITTEN_FORMATS))}; give "
            "another one"
        )
    picture = Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
    with output_file(path) as file, place_to_write(path):
        picture.save(file, form, quality=_QUALITY)
