"""docs/label.md: the columns that it lists, and its examples, on results of a drawn folder."""

import re

import numpy as np
import pytest

from cigpose_runtime.labelling.rows import schema
from labels import label, make_model, make_pictures, rows
from rooms import CLONE

PAGE = (CLONE / "docs" / "label.md").read_text("utf-8")
PANDAS, DUCKDB, FIFTYONE = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder with labels/ in it: four pictures and a file that is none."""
    folder = tmp_path_factory.mktemp("page")
    make_pictures(folder / "photos", 4)
    (folder / "photos" / "bad.jpg").write_bytes(b"no picture")
    model = make_model(folder / "tiny.onnx")
    given = [model, folder / "photos", "--whole-frame", "--shard-size", 2]
    assert label(*given, "--out", folder / "labels") == 1
    return folder


def run(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    return names


def test_the_columns_are_those_of_the_files():
    listed = {}
    for names, kind in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\w<>\[\]]+) \|", PAGE, re.M):
        listed |= dict.fromkeys(re.findall(r"\w+", names), kind)
    sizes = {"[2K]": "[34]", "[K]": "[17]"}
    for letters, size in sizes.items():
        listed = {name: kind.replace(letters, size) for name, kind in listed.items()}
    assert listed == {
        field.name: str(field.type).replace("element: ", "").replace("item: ", "")
        for field in schema(17, {})
    }


def test_the_pandas_example_gives_all_people(found, monkeypatch):
    names = run(PANDAS, found, monkeypatch)
    people = [row for row in rows(found / "labels") if row["person"] is not None]
    expected = np.array([row["keypoints"] for row in people]).reshape(4, 133, 2)
    assert np.array_equal(names["keypoints"], expected)
    (unreadable,) = names["unreadable"]["source"]
    assert unreadable.endswith("bad.jpg")


def test_the_duckdb_example_gives_the_wrists(found, monkeypatch):
    wrists = run(DUCKDB, found, monkeypatch)["wrists"]
    expected = [
        (row["source"], row["person"], *row["keypoints"][18:20])
        for row in rows(found / "labels")
        if row["person"] is not None and row["scores"][9] > 0.3
    ]
    assert expected
    assert sorted(wrists) == sorted(expected)


class Shown(list):
    """In place of FiftyOne's data set, which needs its database; samples are its own."""

    add_sample = list.append


def test_the_fiftyone_example_gives_all_people_in_pixels(found, monkeypatch):
    fiftyone = pytest.importorskip("fiftyone", reason="a gigabyte: docs/label.md says which")
    monkeypatch.setattr(fiftyone, "Dataset", Shown)
    monkeypatch.setattr(fiftyone, "launch_app", lambda dataset: dataset)
    samples = run(PANDAS + FIFTYONE, found, monkeypatch)["session"]
    shown = {}
    for sample in samples:
        sample.compute_metadata()
        size = sample.metadata.width, sample.metadata.height
        shown[sample.filepath] = [np.multiply(each.points, size) for each in sample.poses.keypoints]
    assert len(samples.default_skeleton.labels) == 133
    people = [row for row in rows(found / "labels") if row["person"] is not None]
    assert sorted(shown) == sorted(row["source"] for row in people)
    for row in people:
        places = np.reshape(row["keypoints"], (133, 2))
        np.testing.assert_allclose(shown[row["source"]][row["person"]], places, atol=1e-3)
