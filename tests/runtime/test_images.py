"""Still pictures of all kinds, and files that are none."""

import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from cigpose_runtime.errors import FileError
from cigpose_runtime.media import images
from cigpose_runtime.media.images import read_image, write_image

RGB = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
BGR = RGB[:, :, ::-1]


def test_pictures_are_bgr(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), BGR)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_honoured(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png")[:, :, ::-1], upright(RGB))


def test_grey_alpha_palette_and_cmyk_are_converted(tmp_path):
    picture = Image.fromarray(RGB)
    grey = np.asarray(picture.convert("L"))
    picture.convert("L").save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    alpha = picture.copy()
    alpha.putalpha(7)
    alpha.save(tmp_path / "alpha.png")
    assert np.array_equal(read_image(tmp_path / "alpha.png"), BGR)
    picture.quantize(256).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == BGR.shape
    flat = Image.new("CMYK", (9, 6), (0, 255, 255, 0))
    flat.save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - (0, 0, 255)).max() < 12


def test_16_bit_levels_are_scaled(tmp_path):
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_32_bit_levels_are_scaled_as_those_of_16_bits(tmp_path):
    levels = np.array([[-300, 0, 257, 32896, 65535, 1 << 24]], np.int32)
    Image.fromarray(levels).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif")[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]


def tiff(samples, *, bits, width, **tags):
    """A grey TIFF of one strip; tags: numbers, by number after an underscore."""
    entries = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1}
    entries |= {279: len(samples), **{int(name[1:]): value for name, value in tags.items()}}
    padded = samples + b"\0" * (len(samples) % 2)
    listed = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())]
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    return head + padded + struct.pack("<H", len(listed)) + b"".join(listed) + b"\0" * 4


def test_12_bit_levels_are_scaled(tmp_path):
    packed = bytes.fromhex("000010 808fff")  # two levels in three bytes
    (tmp_path / "packed.tif").write_bytes(tiff(packed, bits=12, width=4))
    assert read_image(tmp_path / "packed.tif")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_12_bit_levels_in_16_bits_are_scaled_by_what_the_file_says(tmp_path):
    levels = np.array([0, 0x010, 0x808, 0xFFF], "<u2").tobytes()
    (tmp_path / "a.tif").write_bytes(tiff(levels, bits=16, width=4, _281=0xFFF))
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 0.25, 0.5], [0, 64, 128]),
        ([0, 128, 255], [0, 128, 255]),
        ([-1, 32768, 65535], [0, 128, 255]),
        ([float("nan"), 0.5, float("inf")], [0, 128, 255]),
    ],
)
def test_float_levels_are_scaled(tmp_path, levels, expected):
    Image.fromarray(np.array([levels], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == expected


def test_the_first_frame_of_a_gif_is_a_picture(tmp_path):
    first, second = (Image.fromarray(RGB).quantize(64).convert("P") for _ in range(2))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second.rotate(180)])
    with Image.open(tmp_path / "a.gif") as picture:
        expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "a.gif")[:, :, ::-1], expected)


def test_one_pixel_is_a_picture(tmp_path):
    Image.fromarray(RGB[:1, :1]).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").shape == (1, 1, 3)


def half_a_jpeg(path):
    Image.fromarray(np.repeat(np.repeat(RGB, 40, 0), 40, 1)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "expected a picture"),
        (lambda path: path.mkdir(), "found a directory"),
        (half_a_jpeg, "truncated"),
        (lambda path: path.write_text("<html></html>"), "expected a picture"),
        (lambda path: None, "No such file"),
    ],
    ids=["empty", "directory", "half", "html", "missing"],
)
def test_what_is_no_picture_is_one_line(tmp_path, spoil, message):
    path = tmp_path / "a.jpg"
    spoil(path)
    with pytest.raises(FileError, match=message) as raised:
        read_image(path)
    assert "a.jpg" in str(raised.value)
    assert "\n" not in str(raised.value)


ASKED_FOR = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JXL", "PNG", "TIFF", "WEBP"}
"""HEIF and JXL where their packages are installed."""


@pytest.mark.parametrize("form", ["EPS", "PPM", "ICNS", "JPEG2000", "PCX", "DDS", "TGA", "SGI"])
def test_decoders_that_nobody_asked_for_are_not_reached(tmp_path, form):
    """Pillow looks at what is in a file, not at its name."""
    assert form not in ASKED_FOR
    size = (64, 64) if form == "ICNS" else (9, 6)
    Image.fromarray(RGB).resize(size).save(tmp_path / "a.jpg", form)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == form
    assert set(images.READ_FORMATS) <= ASKED_FOR
    with pytest.raises(FileError, match=r"expected a picture \(AVIF, BMP, GIF, "):
        read_image(tmp_path / "a.jpg")


QUARTERS = np.array([[[220, 40, 40], [40, 220, 40]], [[40, 40, 220], [200, 200, 40]]], np.uint8)


@pytest.mark.parametrize(
    ("ending", "package"), [(".avif", None), (".heic", "pillow_heif"), (".jxl", "pillow_jxl")]
)
def test_forms_of_phones_are_read_upright(tmp_path, ending, package):
    """A Mac's and an iPhone's pictures are stored as the sensor sees them."""
    if package is not None:
        plugin = pytest.importorskip(package)
        getattr(plugin, "register_heif_opener", lambda: None)()
    drawn = np.kron(QUARTERS, np.ones((32, 48, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = tmp_path / f"a{ending}"
    Image.fromarray(drawn).save(path, exif=exif.tobytes(), quality=95)
    upright = np.rot90(drawn, -1)[:, :, ::-1].astype(int)
    read = read_image(path)
    assert read.shape == upright.shape
    assert np.abs(read[24::48, 16::32] - upright[24::48, 16::32]).max() < 12


@pytest.mark.skipif(sys.platform == "win32", reason="puts a shell script in the place of gs")
def test_postscript_does_not_start_ghostscript(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "a.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(FileError, match="expected a picture"):
        read_image(tmp_path / "a.jpg")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "error",
    [
        zlib.error("invalid stored block lengths"),
        struct.error("unpack requires a buffer of 4 bytes"),
        SyntaxError("not a TIFF file"),
        OverflowError("signed integer is less than minimum"),
        IndexError("index out of range"),
        KeyError(0),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_the_pictures_error(tmp_path, monkeypatch, error):
    def decode(*_args):
        raise error

    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(FileError, match="but it cannot be read") as raised:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(raised.value)


def png_of_size(width, height):
    """A PNG whose header says so, and whose pixels are not there."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (65_535, 65_535), (2**31 - 1, 2**31 - 1)])
def test_an_absurd_size_is_refused_before_anything_is_unpacked(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of_size(*size))
    with pytest.raises(FileError, match="expected at most 89,478,485 pixels, found more"):
        read_image(tmp_path / "a.png")


def test_a_webp_may_be_less_large(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST_WEBP_PIXELS", RGB.size // 3 - 1)
    Image.fromarray(RGB).save(tmp_path / "a.webp")
    with pytest.raises(FileError, match=r"expected at most 53 pixels, found more \(9 x 6\)"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("factor", [1.5, 3])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, factor):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(RGB.size / 3 / factor))
    Image.fromarray(RGB).save(tmp_path / "bomb.png")
    with pytest.raises(FileError, match="expected at most"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_what_was_written_is_read_back(tmp_path, suffix):
    write_image(BGR, tmp_path / "new" / f"a{suffix}")
    assert np.array_equal(read_image(tmp_path / "new" / f"a{suffix}"), BGR)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("name", ["a.gif", "a", "a.txt", "a.pdf"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(FileError, match="expected a name that ends in"):
        write_image(BGR, tmp_path / name)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="expected a place to write to"):
        write_image(BGR, tmp_path / "file" / "a.png")
