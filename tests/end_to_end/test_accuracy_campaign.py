"""The accuracy stage on 2,000 pictures: memory stays flat, and Ctrl-C loses nothing."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cigpose_export.accuracy.labelled import SHARD_SIZE
from cigpose_export.drawn.dataset import write_dataset
from cigpose_export.jobs.export import export_models
from cigpose_export.project import Project
from cigpose_export.variants import DEMO
from cigpose_runtime.keypoints import COCO

PICTURES = 2000


def done_in(folder):
    """How many pictures are done."""
    return SHARD_SIZE * len(list((folder / "runtime.labels").glob("shard-*")))


def resident_kb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_and_an_interrupted_run_goes_on(tmp_path, record_property):
    (model,) = export_models(Project.of_this_clone(), [DEMO], weights="demo", out=tmp_path)
    drawn = tmp_path / "drawn"
    write_dataset(drawn, pictures=PICTURES, keypoints=COCO, seed=7, on_done=lambda _: None)
    places = ["--annotations", drawn / "annotations.json", "--images", drawn / "images"]
    command = [sys.executable, "-m", "cigpose_export.cli.main", "accuracy", model.path, *places]
    out = tmp_path / "out"
    command = [*map(str, command), "--out", str(out), "--json"]

    def start():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with start() as first:
        while done_in(out) < PICTURES // 4 and first.poll() is None:
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
    done = done_in(out)
    assert first.returncode == 130
    assert PICTURES // 4 <= done < PICTURES

    resident = {}
    with start() as second:
        while second.poll() is None and (count := done_in(out)) < PICTURES - 50:
            resident[count] = resident_kb(second)
            time.sleep(0.02)
        answer, complaint = second.communicate(timeout=300)
    assert second.returncode == 0, complaint
    found = json.loads(answer)
    assert found["pictures"] > 0.95 * PICTURES
    early = max(kb for count, kb in resident.items() if done < count < done + 300)
    late = max(kb for count, kb in resident.items() if count > PICTURES - 300)
    record_property(
        "figure",
        f"accuracy on {PICTURES} pictures: interrupted after {done}; "
        f"{early / 1024:.0f} MB early, {late / 1024:.0f} MB late",
    )
    assert late <= 1.05 * early
