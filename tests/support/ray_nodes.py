"""A Ray cluster of a head and other nodes, all on this machine."""

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def ray_cluster(nodes=1, **head):
    """Yields the cluster; its workers import what the tests import."""
    changed = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = {name: os.environ.get(name) for name in (*changed, "RAY_ADDRESS")}
    os.environ.update(changed)
    folder = tempfile.mkdtemp(prefix="ray")  # a short path: sockets are in it
    try:
        cluster = Cluster(True, head_node_args={**NODE, "temp_dir": folder, **head})
        try:
            for _ in range(nodes - 1):
                cluster.add_node(**NODE)
            yield cluster
        finally:
            cluster.shutdown()
    finally:
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
