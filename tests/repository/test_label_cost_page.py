"""docs/label-cost.md: what other engines are told to do with a model is what it says itself."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cigpose_runtime import PoseModel
from labels import make_model
from rooms import CLONE

PAGE = (CLONE / "docs" / "label-cost.md").read_text("utf-8")
DAFT, SPARK = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Three pictures as bytes with a box each; the working folder has the model."""
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "model.onnx")
    rows = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        box = [5.0 + number, 5.0, 40.0, 38.0]
        rows.append({"name": str(number), "bytes": content.getvalue(), "box": box})
    return pd.DataFrame(rows)


@pytest.fixture
def expected(table):
    model = PoseModel("model.onnx")
    return [
        model(np.asarray(Image.open(io.BytesIO(content)))[..., ::-1], [box]).keypoints.ravel()
        for content, box in zip(table["bytes"], table["box"], strict=True)
    ]


def test_the_spark_example_gives_each_rows_keypoints(table, expected):
    names = {}
    exec(SPARK[: SPARK.index("table = spark")], names)  # what Spark calls; it is not installed
    (first, second) = names["poses"](iter([table[:2].copy(), table[2:].copy()]))
    found = [*first["keypoints"], *second["keypoints"]]
    assert np.array_equal(found, expected)
    assert [*first["name"], *second["name"]] == ["0", "1", "2"]


def test_the_daft_example_gives_each_rows_keypoints(table, expected, tmp_path, monkeypatch):
    pytest.importorskip("daft")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    table.to_parquet(tmp_path / "pictures.parquet")
    exec(DAFT, {"__name__": "example"})
    found = pd.read_parquet(tmp_path / "poses").sort_values("name")
    assert np.array_equal(np.stack(found["keypoints"]), expected)
