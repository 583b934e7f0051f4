"""Pictures of a video look as in a player: turned, stretched, and in their true colours."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from cigpose_runtime.media.video import Frame, VideoReader
from cigpose_runtime.media.video_writer import VideoWriter

BT2020, BT2020_CONSTANT_LUMINANCE = 9, 10
"""Of matrices, as ISO 23091-2 numbers them."""


def filtered(frame, *filters):
    """A frame after filters of FFmpeg: (name, arguments)."""
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format.name,
            time_base=Fraction(1, 25),
        ),
        *(graph.add(*described) for described in filters),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.pull()


def drawn():
    """A picture no turn or mirror of which looks like another, as a frame of 64 x 48."""
    pixels = np.full((48, 64, 3), 40, np.uint8)
    pixels[:16, :32] = (200, 60, 60)
    pixels[:32, 48:] = (60, 200, 60)
    pixels[40:, :16] = (60, 60, 200)
    return av.VideoFrame.from_ndarray(pixels, format="bgr24")


def write(path, frames, *, codec="libx264", pix_fmt="yuv420p", aspect=None, **tags):
    with av.open(str(path), "w") as container:
        options = {"crf": "0"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def first(path):
    with VideoReader(path) as reader:
        return next(iter(reader)).pixels


def stored(path):
    """The first frame as it is in the file."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


# The matrix (a, b, c, d) of ISO 14496-12, and the filters that ffmpeg itself applies for it
# (fftools/ffmpeg_filter.c, insert_autorotate).
MATRICES = [
    ((1, 0, 0, 1), []),
    ((0, 1, -1, 0), [("transpose", "clock")]),
    ((-1, 0, 0, -1), [("hflip", ""), ("vflip", "")]),
    ((0, -1, 1, 0), [("transpose", "cclock")]),
    ((-1, 0, 0, 1), [("hflip", "")]),
    ((1, 0, 0, -1), [("vflip", "")]),
    ((0, 1, 1, 0), [("transpose", "cclock_flip")]),
    ((0, -1, -1, 0), [("transpose", "clock_flip")]),
]


def with_matrix(data, matrix):
    """An MP4 with another matrix in its track header (ISO 14496-12, tkhd)."""
    one = 1 << 16
    a, b, c, d = (value * one for value in matrix)
    plain = np.array([one, 0, 0, 0, one, 0, 0, 0, 1 << 30], ">i4").tobytes()
    place = data.index(plain, data.index(b"tkhd"))
    other = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    return data[:place] + other + data[place + len(plain) :]


@pytest.mark.parametrize(("matrix", "filters"), MATRICES)
def test_all_eight_display_matrices_are_followed(tmp_path, matrix, filters):
    path = write(tmp_path / "a.mp4", [drawn()] * 3)
    path.write_bytes(with_matrix(path.read_bytes(), matrix))
    expected = filtered(stored(path), ("format", "bgr24"), *filters).to_ndarray()
    assert np.array_equal(first(path), expected)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        ((2, 1), (128, 48)),
        ((1, 2), (64, 96)),
        ((12, 11), (70, 48)),
        ((1, 1), (64, 48)),
        ((500, 1), (64, 48)),
    ],
)
def test_pixels_are_square(tmp_path, aspect, size):
    path = write(tmp_path / "a.mp4", [drawn()] * 3, aspect=Fraction(*aspect), pix_fmt="yuv444p")
    width, height = size
    scaled = ("scale", f"{width}:{height}:flags=bilinear")
    expected = filtered(stored(path), scaled, ("format", "bgr24")).to_ndarray()
    found = first(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_a_picture_is_stretched_before_it_is_turned(tmp_path):
    path = write(tmp_path / "a.mp4", [drawn()] * 3, aspect=Fraction(2))
    path.write_bytes(with_matrix(path.read_bytes(), (0, 1, -1, 0)))
    assert first(path).shape == (128, 48, 3)


def grey_ramp(trc, matrix):
    """10 bits of BT.2020, from black at the top to the brightest of the range."""
    frame = av.VideoFrame(64, 64, "yuv420p10le")
    luma = np.linspace(64, 940, 64).astype("<u2")
    for index, plane in enumerate(frame.planes):
        rows = luma[: plane.height] if index == 0 else np.full(plane.height, 512, "<u2")
        plane.update(np.repeat(rows[:, None], plane.line_size // 2, axis=1).tobytes())
    frame.colorspace, frame.color_range = matrix, ColorRange.MPEG
    frame.color_trc, frame.color_primaries = trc, ColorPrimaries.BT2020
    return frame


def write_ramp(path, trc, matrix=BT2020):
    tags = {"colorspace": matrix, "color_range": ColorRange.MPEG}
    tags |= {"color_trc": trc, "color_primaries": ColorPrimaries.BT2020}
    frames = [grey_ramp(trc, matrix) for _ in range(3)]
    return write(path, frames, codec="ffv1", pix_fmt="yuv420p10le", **tags)


@pytest.mark.parametrize(
    "trc",
    [ColorTrc.SMPTE2084, pytest.param(ColorTrc.ARIB_STD_B67, marks=pytest.mark.long)],
    ids=["PQ", "HLG"],
)
def test_high_dynamic_range_is_tone_mapped_as_ffmpeg_does(tmp_path, trc):
    path = write_ramp(tmp_path / "a.mkv", trc)
    sdr = ("scale", "out_primaries=bt709:out_transfer=bt709")
    expected = filtered(stored(path), sdr, ("format", "bgr24")).to_ndarray()
    found = first(path)
    assert np.array_equal(found, expected)
    pale = stored(path).to_ndarray(format="bgr24")
    assert np.abs(found.astype(int) - pale).max() > 50
    assert np.all(np.diff(found[:, 0, 1].astype(int)) >= 0)


def test_what_cannot_be_tone_mapped_is_pale_and_says_so(tmp_path):
    path = write_ramp(tmp_path / "a.mkv", ColorTrc.SMPTE2084, BT2020_CONSTANT_LUMINANCE)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert (len(frames), reader.is_pale, reader.skipped) == (3, True, 0)
    pale = stored(path).to_ndarray(format="bgr24", src_colorspace=Colorspace.BT2020)
    assert np.array_equal(frames[0].pixels, pale)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p12le", "gray12le", "gbrpf32le"])
def test_depths_other_than_8_bits_are_scaled(tmp_path, pix_fmt):
    codec = "rawvideo" if pix_fmt == "gbrpf32le" else "ffv1"
    path = write(tmp_path / "a.nut", [drawn()] * 3, codec=codec, pix_fmt=pix_fmt)
    expected = drawn().to_ndarray().astype(int)
    if pix_fmt == "gray12le":
        expected = np.repeat(drawn().to_ndarray(format="gray")[:, :, None], 3, axis=2).astype(int)
    difference = np.abs(first(path).astype(int) - expected)
    assert np.median(difference) <= 2
    assert difference.mean() < 3  # chroma is shared between pixels at the edges


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_a_saved_video_says_what_its_colours_mean(tmp_path, size):
    """Players guess from the size what is not said; blue would be 30 levels off."""
    width, height = size
    colours = np.full((height, width, 3), (230, 40, 20), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(25)) as writer:
        for index in range(3):
            writer.write(Frame(colours, index, index, Fraction(1, 25)))
    frame = stored(tmp_path / "a.mp4")
    assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
    blue, green, red = (np.array([230, 40, 20]) / 255).tolist()
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # ITU-R BT.709, 3.2
    expected = (
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8556,
        128 + 224 * (red - luma) / 1.5748,
    )
    found = [np.frombuffer(plane, np.uint8)[0] for plane in frame.planes]
    assert found == pytest.approx(expected, abs=2)
