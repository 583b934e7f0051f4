"""A Ray cluster of a head and other nodes, all on this machine."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ray._private import services
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


START_S = 300
"""For a node to start. Ray gives it 30, too little where other programs keep the cores busy."""

_get_node = services.get_node


def _get_node_in_time(*arguments):
    until = time.monotonic() + START_S
    while True:
        try:
            return _get_node(*arguments)
        except RuntimeError:  # not yet
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@contextmanager
def ray_cluster(nodes=1, **head):
    """Yields the cluster; its workers import what the tests import."""
    folder = tempfile.mkdtemp(prefix="ray")  # a short path: sockets are in it
    (Path(folder) / "ray").mkdir()  # where Ray notes the address, and expects a folder
    changed = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_TMPDIR": folder,
    }
    before = {name: os.environ.get(name) for name in (*changed, "RAY_ADDRESS")}
    os.environ.update(changed)
    patient = mock.patch.object(services, "get_node", _get_node_in_time)
    patient.start()
    try:
        cluster = Cluster(True, head_node_args={**NODE, "temp_dir": folder, **head})
        try:
            for _ in range(nodes - 1):
                cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()
            # Pipes of nodes that were killed, here and not in whichever test comes next.
            gc.collect()
            subprocess._cleanup()
    finally:
        patient.stop()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def workers_of(node):
    """The process ids of a node's workers."""
    (raylet,) = node.all_processes["raylet"]
    children = Path(f"/proc/{raylet.process.pid}/task/{raylet.process.pid}/children").read_text()
    return [int(pid) for pid in children.split() if "ray::_Actor" in _command(pid)]


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
