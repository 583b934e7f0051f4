"""5,000 pictures and 20 clips: the same rows from one process, two, and a Ray cluster, whatever is
killed on the way; flat memory; and 100,000 files that are listed."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray")

import pyarrow as pa
import pyarrow.parquet as pq

from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from labels import label, make_clip, make_model
from ray_nodes import NODE, ray_cluster, workers_of
from s3_server import serve_s3

PICTURES, CLIPS, KILLS = 5000, 20, 20
STILLS = PICTURES // 50
"""Shards of pictures; each clip has one of its own."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(7200),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning", "ignore:.*:FutureWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    (folder / "sources").mkdir()
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "sources" / f"{number:04d}.jpg", quality=90)
    for number in range(CLIPS):
        make_clip(folder / "sources" / f"{number:02d}.mp4", 10 + number)
    model = make_model(folder / "tiny.onnx")
    return [model, folder / "sources", "--whole-frame", "--shard-size", 50]


@pytest.fixture(scope="module")
def table(given, tmp_path_factory):
    """All rows of one process, whose memory does not grow."""
    out = tmp_path_factory.mktemp("one") / "out"
    resident = {}
    with started(given, out) as process:
        while process.poll() is None:
            if (done := shards_in(out)) <= STILLS:
                resident[done] = resident_kb(process)
            waited(process)
    assert process.returncode == 0
    early = max(kb for done, kb in resident.items() if STILLS // 20 < done <= STILLS // 5)
    late = max(kb for done, kb in resident.items() if done > 4 * STILLS // 5)
    assert late <= 1.05 * early, (early, late)
    rows = table_of(out)
    assert rows.num_rows == PICTURES + sum(10 + number for number in range(CLIPS))
    assert len(set(zip(rows["source"].to_pylist(), rows["frame"].to_pylist(), strict=True))) == (
        rows.num_rows
    )
    return rows


def started(given, out, *options):
    command = [sys.executable, "-m", "cigpose_runtime.cli", "label", *given, "--out", out, *options]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)


def waited(process):
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.05)


def shards_in(out):
    return len(list(out.glob("shard*")))


def resident_kb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) if found else 0


def table_of(out):
    names = sorted(out.glob("shard*"))
    return pa.concat_tables(pq.read_table(name) for name in names).replace_schema_metadata()


def test_two_processes_give_the_rows_of_one(given, table, tmp_path):
    assert label(*given, "--out", tmp_path / "out", "--workers", 2) == 0
    assert table_of(tmp_path / "out").equals(table)


def test_a_cluster_gives_the_rows_of_one_whatever_is_killed(
    given, table, tmp_path, record_property
):
    """SIGKILL of workers, of a node that comes back, and of the run itself, in turn."""
    out, kinds, killed, runs = tmp_path / "out", itertools.cycle("WNR"), [], 0
    with ray_cluster(nodes=2) as cluster:
        options = ["--ray", cluster.address]
        status = None
        while status != 0:
            runs += 1
            assert runs <= 2 * KILLS
            with started(given, out, *options) as process:
                while process.poll() is None:
                    due = (len(killed) + 1) * (STILLS + CLIPS) // (KILLS + 2)
                    if len(killed) < KILLS and shards_in(out) >= due:
                        kind = next(kinds)
                        killed.append(kind)
                        if kind == "W":
                            nodes = [cluster.head_node, *cluster.worker_nodes]
                            for pid in [pid for node in nodes for pid in workers_of(node)][:1]:
                                os.kill(pid, signal.SIGKILL)
                        elif kind == "N":
                            (other,) = cluster.worker_nodes
                            cluster.remove_node(other, allow_graceful=False)
                            cluster.add_node(**NODE)
                        else:
                            process.kill()
                    waited(process)
                status = process.returncode
    record_property("figure", f"label on Ray: {len(killed)} kills, {runs} runs")
    assert len(killed) == KILLS
    assert table_of(out).equals(table)


def test_a_bucket_is_source_and_target_of_a_cluster(given, tmp_path, monkeypatch):
    names = [f"{number:04d}.jpg" for number in range(60)]
    with serve_s3() as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        for name in names:
            s3._client().upload_file(str(given[1] / name), "bucket", f"photos/{name}")
        model, _, *options = given
        command = [model, "s3://bucket/photos", *options, "--out", "s3://bucket/out"]
        with ray_cluster(nodes=2) as cluster:
            assert label(*command, "--ray", cluster.address) == 0
        for name, content in s3.contents().items():
            if name.startswith("out/shard"):
                (tmp_path / Path(name).name).write_bytes(content)
    files = [given[1] / name for name in names]
    assert label(model, *files, *options, "--out", tmp_path / "local") == 0
    here, there = table_of(tmp_path / "local"), table_of(tmp_path)
    assert [Path(name).name for name in there["source"].to_pylist()] == names
    assert there.drop_columns("source").equals(here.drop_columns("source"))


def test_100_000_listed_files_are_planned_within_seconds(given, tmp_path, record_property):
    listed = tmp_path / "files.txt"
    listed.write_text("".join(f"{given[1]}/{number:06d}.jpg\n" for number in range(100_000)))
    before = time.process_time()
    shards = plan(find_items([str(listed)], out=""), 1000)
    assert len({shard.inputs_sha256 for shard in shards}) == 100
    seconds = time.process_time() - before
    record_property("figure", f"100,000 listed files: planned in {seconds:.1f} CPU seconds")
    assert seconds < 10  # 3.2 on a busy machine
