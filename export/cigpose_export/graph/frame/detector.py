"""The people in a frame: cigpose_runtime.estimation.yolox.YoloxDetector as a graph."""

from __future__ import annotations

import numpy as np
import onnx

from cigpose_export.graph.frame.builder import Value
from cigpose_export.graph.frame.pixels import Frame
from cigpose_runtime import YoloxDetector
from cigpose_runtime.estimation.letterbox import PADDING_LEVEL


def detect(
    frame: Frame, yolox: YoloxDetector, model: onnx.ModelProto, max_people: int
) -> tuple[Value, Value]:
    """The surest people, at most `max_people`: boxes (n, 4) in frame pixels and scores (n,).

    yolox: the detector as the runtime opens it. model: its graph.
    """
    graph = frame.flat.graph
    graph.section = "letterbox"
    picture, ratio = letterboxed(frame, yolox.input_wh)
    count = yolox.batch or 1
    batch = graph.concat([picture] * count, axis=0) if count > 1 else picture
    (predictions,) = graph.embed(model, "detector", batch)
    graph.section = "detect"
    predictions = predictions.gather(0, axis=0)
    boxes = _boxes(predictions, yolox)
    scores = predictions.slice(1, 4) * predictions.slice(1, 5 + yolox.class_id)
    kept = _suppressed(boxes, scores, yolox)
    return _in_frame(
        graph.op("Gather", boxes, kept, axis=0),
        graph.op("Gather", scores, kept, axis=0).reshape(-1),
        frame,
        ratio,
        max_people,
    )


def letterboxed(frame: Frame, input_wh: tuple[int, int]) -> tuple[Value, Value]:
    """As `letterbox`: the picture (1, 3, h, w) float32, and the scale, a double."""
    graph = frame.flat.graph
    w, h = input_wh
    height, width = frame.height.to(np.float64), frame.width.to(np.float64)
    ratio = graph.op("Min", h / height, w / width)
    axes = []
    for there, size, shape in ((height, h, (-1, 1)), (width, w, (-1,))):
        new = graph.op("Max", (there * ratio).floor(), graph.constant(1, np.float64))
        index = np.arange(size, dtype=np.float64).reshape(shape)
        places = ((graph.constant(index + 0.5, np.float64)) * (there / new) - 0.5).clip(
            0, there - 1
        )
        before = places.floor()
        share = (places - before).to(np.float32)
        after = graph.op("Min", before + 1, there - 1)
        inside = graph.constant(index, np.float64) < new
        axes.append((before.to(np.int32), after.to(np.int32), share, inside))
    (y, y_next, y_share, y_inside), (x, x_next, x_share, x_inside) = axes

    offsets = frame.channel_offsets("bgr")

    def blended(column: Value) -> Value:
        places = column * frame.channels + offsets
        above, below = (
            frame.look_up(places + row * frame.stride, 1, 3, h, w) for row in (y, y_next)
        )
        return above * (1 - y_share) + below * y_share

    resized = blended(x) * (1 - x_share) + blended(x_next) * x_share
    return graph.where(y_inside & x_inside, resized.rint(), PADDING_LEVEL), ratio


def _boxes(predictions: Value, yolox: YoloxDetector) -> Value:
    """Boxes of all cells, (cells, 4) left, top, right, bottom in pixels of the input."""
    graph = predictions.graph
    centers, sizes = predictions.slice(1, 0, 2), predictions.slice(1, 2, 4)
    if not yolox.is_decoded:
        cells, strides = yolox.grid
        centers = (centers + cells) * strides
        sizes = graph.op("Exp", sizes) * strides
    half = sizes / 2
    return graph.concat([centers - half, centers + half], axis=1)


def _suppressed(boxes: Value, scores: Value, yolox: YoloxDetector) -> Value:
    """As `nms` of the cells whose score is high enough: their indices (n,), the surest first."""
    graph = boxes.graph
    # NonMaxSuppression asks for scores above its threshold, the runtime takes those at it, too.
    sure = graph.where(scores >= yolox.score_threshold, scores, 0)
    selected = graph.op(
        "NonMaxSuppression",
        boxes.reshape(1, -1, 4),
        sure.reshape(1, 1, -1),
        graph.constant([np.iinfo(np.int32).max], np.int64),
        graph.constant([yolox.nms_threshold], np.float32),
        graph.constant([0], np.float32),
        dtype=np.int64,
    )
    return selected.gather(2, axis=1)


def _in_frame(
    boxes: Value, scores: Value, frame: Frame, ratio: Value, max_people: int
) -> tuple[Value, Value]:
    """From the input to the frame; what is less than a pixel wide or high there goes."""
    graph = boxes.graph
    limits = [
        graph.op("Min", (boxes / ratio.to(np.float32)).slice(1, axis), size.to(np.float32))
        for axis, size in enumerate((frame.width, frame.height) * 2)
    ]
    clipped = graph.op("Max", graph.concat(limits, axis=1), graph.constant(0, np.float32))
    sides = clipped.slice(1, 2, 4) - clipped.slice(1, 0, 2)
    has_area = sides >= 1
    is_kept = (has_area.slice(1, 0) & has_area.slice(1, 1)).reshape(-1)
    surest = (
        graph.op("Compress", value, is_kept, axis=0).slice(0, 0, max_people)
        for value in (clipped, scores)
    )
    kept_boxes, kept_scores = surest
    return kept_boxes, kept_scores
