"""What a SOURCE of `label` may be, and that each gives the pictures that are in it."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import pyarrow as pa
import pyarrow.parquet as pq

from cigpose_runtime import FileError
from cigpose_runtime.labelling.containers import read_content
from cigpose_runtime.labelling.items import Item
from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from labels import label, make_model, rows

NAMES = ["a/0.png", "a/1.jpg", "b.PNG"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with three pictures in photos/."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 30), (60 * number, 9, 9)).save(path)
    (tmp_path / "photos" / "notes.md").write_text("no picture")
    return tmp_path


def contents(folder):
    return [(folder / "photos" / name).read_bytes() for name in NAMES]


def found(*sources, out="out"):
    return find_items([str(source) for source in sources], out=out)


def sources(items):
    return [item.source for item in items]


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def make_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("given", ["photos", "./photos", "photos/", "../{}/photos"])
def test_a_folder_gives_the_pictures_below_it_under_its_own_name(folder, given):
    given = given.format(folder.name)
    items = found(given)
    assert sources(items) == [f"{given.rstrip('/')}/{name}" for name in NAMES]
    assert [read_content(item) for item in items] == contents(folder)


def test_a_folder_that_may_not_be_listed_is_an_error(folder, monkeypatch):
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("photos/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)  # root may list everything
    with pytest.raises(FileError, match="photos/a: expected a folder to look into"):
        found("photos")


def test_what_is_left_out_is_said(folder):
    said = []
    find_items(["photos"], out="out", say=said.append)
    assert said == ["left out what is no picture, video or archive by its name (.md: 1)"]


def test_links_to_folders_are_not_followed_those_to_pictures_are(folder):
    (folder / "photos" / "loop").symlink_to(folder / "photos")
    (folder / "photos" / "c.png").symlink_to(folder / "photos" / "b.PNG")
    assert sources(found("photos")) == [
        "photos/a/0.png",
        "photos/a/1.jpg",
        "photos/b.PNG",
        "photos/c.png",
    ]


def test_results_inside_a_source_are_no_source(folder):
    (folder / "photos" / "out").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "photos" / "out" / "x.png")
    assert sources(found("photos", out="photos/out/")) == [f"photos/{name}" for name in NAMES]
    assert len(found("photos", out=str(folder / "elsewhere"))) == 4


def test_a_pattern_gives_what_it_matches(folder):
    assert sources(found("photos/a/*")) == ["photos/a/0.png", "photos/a/1.jpg"]
    assert sources(found("photos/**/*.png")) == ["photos/a/0.png"]


def test_a_name_that_looks_like_a_pattern_or_a_url_is_that_file(folder):
    for name in ("[1].png", "a:b.png", "s3::x.png"):
        Image.new("RGB", (9, 9)).save(folder / name, "PNG")
        assert sources(found(name)) == [name]
        assert read_content(found(name)[0]) == (folder / name).read_bytes()


def test_a_list_gives_its_lines_and_what_is_missing_is_found_out_later(folder):
    Path("list.txt").write_text("photos/a/1.jpg\n\n  photos/none.jpg \nphotos/a/0.png\n")
    items = found("list.txt")
    assert sources(items) == ["photos/a/1.jpg", "photos/none.jpg", "photos/a/0.png"]
    with pytest.raises(
        FileError, match=r"photos/none\.jpg: expected a picture, found: No such file"
    ):
        read_content(items[1])


def test_what_two_sources_name_is_there_once(folder):
    assert sources(found("photos/a", "photos/a/1.jpg", "photos/b.PNG")) == [
        f"photos/{name}" for name in NAMES
    ]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_archives_give_their_pictures(folder, make):
    ending = make.__name__.removeprefix("make_")
    files = [*zip(NAMES, contents(folder), strict=True), ("notes.txt", b"no picture")]
    make(folder / f"x.{ending}", files)
    items = found(f"x.{ending}")
    assert sources(items) == [f"x.{ending}/{name}" for name in NAMES]
    assert [read_content(item) for item in reversed(items)] == contents(folder)[::-1]


def test_a_packed_tar_is_refused(folder):
    make_tar(folder / "x.tar", zip(NAMES, contents(folder), strict=True), "w:gz")
    with pytest.raises(FileError, match=r"x\.tar: expected a tar archive without compression"):
        found("x.tar")


def test_a_damaged_member_costs_itself(folder):
    make_zip(folder / "x.zip", zip(NAMES, contents(folder), strict=True))
    data = bytearray(Path("x.zip").read_bytes())
    data[60] ^= 255  # in the first member's content
    Path("x.zip").write_bytes(data)
    first, second, _ = found("x.zip")
    with pytest.raises(FileError, match=r"x\.zip/a/0\.png: expected a picture"):
        read_content(first)
    assert read_content(second) == contents(folder)[1]


@pytest.mark.parametrize("column", ["image", "bytes", "hugging face"])
def test_a_parquet_file_gives_the_pictures_in_its_rows(folder, column):
    values = contents(folder)
    if column == "hugging face":
        values = [{"bytes": value, "path": "x"} for value in values]
    table = pa.table({column if column != "hugging face" else "image": values})
    pq.write_table(table, "x.parquet", row_group_size=2)
    items = found("x.parquet")
    assert sources(items) == ["x.parquet/0", "x.parquet/1", "x.parquet/2"]
    assert [read_content(item) for item in items] == contents(folder)


def test_a_parquet_file_gives_the_paths_and_boxes_in_its_rows(folder):
    boxes = [[[1.0, 2.0, 9.0, 12.0]], [], None]
    paths = [f"photos/{name}" for name in NAMES]
    pq.write_table(pa.table({"path": paths, "boxes": boxes}), "x.parquet", row_group_size=2)
    items = found("x.parquet")
    assert sources(items) == paths
    assert [item.boxes for item in items] == [((1.0, 2.0, 9.0, 12.0),), (), None]


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"picture": [b""]}, "expected a column named image, bytes, path, found picture"),
        ({"path": ["a"], "boxes": [[[1.0, 2.0]]]}, "row 0: expected boxes as a list of"),
    ],
)
def test_a_parquet_file_of_another_form_is_refused(folder, table, what):
    pq.write_table(pa.table(table), "x.parquet")
    with pytest.raises(FileError, match=what):
        found("x.parquet")


def test_boxes_of_rows_stand_in_for_those_of_the_options(folder):
    boxes = [[[1.0, 2.0, 9.0, 12.0]], [], None]
    paths = [f"photos/{name}" for name in NAMES]
    pq.write_table(pa.table({"path": paths, "boxes": boxes}), "x.parquet")
    model = make_model(folder / "tiny.onnx")
    assert label(model, "x.parquet", "--whole-frame", "--out", "out") == 0
    assert [row["box_xyxy"] for row in rows(folder / "out")] == [
        [1, 2, 9, 12],
        None,
        [0, 0, 22, 30],
    ]


def test_every_kind_of_source_gives_the_same_rows(folder):
    model = make_model(folder / "tiny.onnx")
    files = list(zip(NAMES, contents(folder), strict=True))
    make_zip(folder / "x.zip", files)
    make_tar(folder / "x.tar", files)
    pq.write_table(pa.table({"bytes": contents(folder)}), "x.parquet")
    given = ["photos", "x.zip", "x.tar", "x.parquet"]
    assert label(model, *given, "--whole-frame", "--out", "out", "--shard-size", 5) == 0
    values = [(row["width"], row["keypoints"], row["scores"]) for row in rows(folder / "out")]
    assert len(values) == 12
    assert values == values[:3] * 4


def test_a_name_that_is_no_utf8_is_written_escaped(folder):
    model = make_model(folder / "tiny.onnx")
    Image.new("RGB", (20, 20)).save(folder / "x.png")
    Path("x.png").rename(b"\xff.png".decode("utf-8", "surrogateescape"))
    assert label(model, *Path().glob("*.png"), "--whole-frame", "--out", "out") == 0
    assert rows(folder / "out")[0]["source"] == r"\udcff.png"


# Shards


def test_shards_have_so_many_pictures_and_then_one_video_each():
    items = [Item(f"{i}.png", f"{i}.png", stamp=str(i)) for i in range(5)]
    items.insert(1, Item("clip.mp4", "clip.mp4", kind="video"))
    shards = plan(items, 2)
    assert [[item.source for item in shard.items] for shard in shards] == [
        ["0.png", "1.png"],
        ["2.png", "3.png"],
        ["4.png"],
        ["clip.mp4"],
    ]
    assert [shard.name for shard in shards] == [f"shard-00000{i}.parquet" for i in range(4)]
    assert len({shard.inputs_sha256 for shard in shards}) == 4


# Behind URLs


@pytest.fixture
def s3(monkeypatch):
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    import fsspec

    from s3_server import serve_s3

    with serve_s3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        fsspec.filesystem("s3").clear_instance_cache()
        yield server
        fsspec.filesystem("s3").clear_instance_cache()


def test_a_bucket_is_source_and_target(s3, folder):
    model = make_model(folder / "tiny.onnx")
    make_zip(folder / "photos" / "x.zip", [("z.png", contents(folder)[0])])
    client = s3._client()
    for path in (folder / "photos").rglob("*.*"):
        if path.is_file():
            key = path.relative_to(folder).as_posix()
            client.upload_file(str(path), "bucket", key)
    given = [model, "s3://bucket/photos", "--whole-frame", "--shard-size", 2]
    for _ in range(2):  # the second run finds all done
        assert label(*given, "--out", "s3://bucket/out") == 0
    written = {name: made for name, made in s3.contents().items() if name.startswith("out/")}
    assert sorted(written) == [
        "out/manifest.json",
        "out/shard-000000.parquet",
        "out/shard-000001.parquet",
    ]
    (folder / "fetched").mkdir()
    for name, made in written.items():
        (folder / "fetched" / Path(name).name).write_bytes(made)
    sorted_names = [*NAMES, "x.zip/z.png"]
    got = rows(folder / "fetched")
    assert [row["source"] for row in got] == [f"s3://bucket/photos/{name}" for name in sorted_names]
    assert [row["width"] for row in got] == [20, 21, 22, 20]
