"""Still pictures, in and out, with Pillow."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cigpose_runtime.arrays import Pixels
from cigpose_runtime.errors import FileError
from cigpose_runtime.files import appears_whole, open_file

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Files of a folder that are taken for pictures."""

_QUALITY = 95
_16_BIT_TO_8 = 257


def read_image(path: str | PathLike[str]) -> Pixels:
    """A picture as (H, W, 3) uint8 BGR, upright as its EXIF orientation says.

    Grey, palette, alpha (left out), CMYK and 16-bit pictures are converted.
    Raises FileError for a file that is none, is damaged, or unpacks to over 90 million pixels.
    """
    with open_file(path, "a picture") as file:
        return decode_image(file, path)


def decode_image(file: BinaryIO, name: str | PathLike[str]) -> Pixels:
    """As read_image, from an open file. name: of the picture, for errors."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as picture:
                upright = ImageOps.exif_transpose(picture)
                if upright.mode.startswith("I;16") or upright.mode == "I":
                    levels = np.asarray(upright).astype(np.int64) // _16_BIT_TO_8
                    upright = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
                # Pillow turns the colours around in a quarter of the time that numpy takes.
                bgr = bytearray(upright.convert("RGB").tobytes("raw", "BGR"))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise FileError(
                f"{name}: expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, found more "
                f"({error}); scale the picture down"
            ) from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
            reason = str(error).partition(" <")[0]  # not the object's place in memory
            raise FileError(
                f"{name}: expected a picture, found none that can be read ({reason}); "
                "replace the file"
            ) from error
    return np.frombuffer(bgr, np.uint8).reshape(upright.height, upright.width, 3)


def write_image(frame: Pixels, path: str | PathLike[str]) -> None:
    """Writes (H, W, 3) uint8 BGR in the form that the file's ending says, whole or not at all.

    Raises FileError for an ending that is none of a picture, and for a folder that cannot be
    written to.
    """
    from PIL import Image

    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None or path.suffix.lower() not in SUFFIXES:
        raise FileError(
            f"{path}: expected a name that ends in {', '.join(sorted(SUFFIXES))}; give another one"
        )
    picture = Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
    try:
        with appears_whole(path) as file:
            picture.save(file, form, quality=_QUALITY)
    except OSError as error:
        raise FileError(
            f"{path}: expected a place to write to, found: {error.strerror or error}; correct it"
        ) from error
