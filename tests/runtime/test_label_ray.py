"""`label --ray`: the rows of one process, on a cluster that loses workers, nodes and its head."""

import socket
import time
from functools import partial

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("ray")

from cigpose_runtime import cli
from cigpose_runtime.commands import options
from cigpose_runtime.errors import CheckError, FileError, InputError
from cigpose_runtime.labelling import cluster as on_cluster
from cigpose_runtime.labelling.cluster import Cluster, _Driver
from cigpose_runtime.labelling.shards import plan
from cigpose_runtime.labelling.sources import find_items
from labels import label, make_sources, rows
from ray_nodes import NODE, ray_cluster
from suicidal_worker import suicidal

pytestmark = pytest.mark.filterwarnings("ignore:.*:ResourceWarning", "ignore:.*:FutureWarning")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Model and sources: 30 pictures, of which one is none, and a clip; 11 shards."""
    return make_sources(tmp_path_factory.mktemp("given"), 29)


@pytest.fixture(scope="module")
def labelled(given, tmp_path_factory):
    """The results of one process."""
    out = tmp_path_factory.mktemp("labelled") / "out"
    assert label(*given, "--out", out) == 1
    return out


@pytest.fixture
def whole(labelled):
    return rows(labelled)


@pytest.fixture
def run(capsys):
    """Runs a command line in this process; returns exit status and stderr."""

    def call(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return status, said

    return call


def test_a_cluster_gives_the_rows_of_one_process(given, whole, tmp_path, monkeypatch):
    model, pictures, *others = given
    monkeypatch.chdir(pictures.parent)  # relative paths hold on the nodes, too
    relative = [model.name, pictures.name, *others]
    with ray_cluster(num_cpus=2) as nodes:
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        assert label(*relative, "--out", tmp_path / "out", "--ray") == 1
    here = f"{pictures.parent}/"
    for row in whole:
        row["source"] = row["source"].removeprefix(here)
        row["error"] = row["error"] and row["error"].replace(here, "")
    assert rows(tmp_path / "out") == whole


# What cannot be done


@pytest.fixture
def silent():
    """The address of something that listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1:1", "found: Connection refused"),
        ("127.0.0.1:99999", "found: "),
        ("photos", "found no HOST:PORT"),
        ("ray://127.0.0.1:10001", "found no HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(run, given, tmp_path, address, what):
    status, said = run("label", *given, "--out", tmp_path / "out", "--ray", address)
    assert status == 2
    assert f"--ray {address}: expected a Ray cluster, {what}" in said.splitlines()[-1]


def test_what_listens_and_is_no_cluster_is_one_line(run, given, tmp_path, silent, monkeypatch):
    monkeypatch.setattr(on_cluster, "_CONNECTED_S", 0.5)
    status, said = run("label", *given, "--out", tmp_path / "out", "--ray", silent)
    assert status == 2
    assert f"--ray {silent}: expected a Ray cluster, found no answer within 0.5 s" in said


def test_without_ray_the_error_names_the_extra(run, given, tmp_path, monkeypatch):
    there = options.importlib.util.find_spec
    monkeypatch.setattr(
        options.importlib.util, "find_spec", lambda name: name != "ray" and there(name)
    )
    status, said = run("label", *given, "--out", tmp_path / "out", "--ray")
    assert (status, said.count("\n")) == (2, 1)
    assert 'found no Ray; run: pip install "cigpose-runtime[ray]"' in said


def node(cpus, gpus=0, *, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus), "memory": 1e9}}


@pytest.mark.parametrize(
    ("wanted", "nodes", "threads", "workers"),
    [
        ({}, [node(0), node(64)], 4, 16),
        ({}, [node(2), node(9)], 4, 2),
        ({}, [node(1), node(2), node(64, alive=False)], 2, 1),
        ({"threads": 1}, [node(1), node(2)], 1, 3),
        ({"workers": 5}, [node(8)], 4, 5),
        ({"gpu": True}, [node(64), node(64, 4), node(8, 8)], 4, 6),
        ({"gpu": True, "workers": 3}, [node(64)], 1, 3),
    ],
)
def test_workers_are_as_many_as_fit(wanted, nodes, threads, workers):
    number = wanted.pop("workers", None)
    driver = _Driver([], lambda _cores: None, Cluster("auto", **wanted), number)
    assert driver._share(nodes) == (threads, workers)


def test_a_cluster_without_what_workers_need_is_an_error():
    driver = _Driver([], lambda _cores: None, Cluster("auto", gpu=True), None)
    with pytest.raises(InputError, match="a node for 1 threads and with a GPU, found none"):
        driver._share([node(64)])


# A cluster of two nodes


@pytest.fixture(scope="module")
def nodes():
    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def shards(given):
    return plan(find_items([str(given[1])], out=""), 3)


def run_until(cluster, given, shards, out, at):
    """Labels; calls the function of a number after so many pictures."""
    seen = []

    def on_picture(people):
        seen.append(people)
        at.get(len(seen), lambda: None)()

    make_worker = partial(suicidal, given[0], out)
    on_cluster.run(shards, make_worker, Cluster(cluster.address), None, on_picture)
    return seen


@pytest.mark.long
def test_the_shard_of_a_killed_worker_is_made_by_another(nodes, given, whole, shards, tmp_path):
    (tmp_path / "token").touch()
    assert len(run_until(nodes, given, shards, tmp_path / "out", {})) == len(whole)
    assert not list(tmp_path.glob("token*"))
    assert rows(tmp_path / "out") == whole


@pytest.mark.long
def test_a_shard_that_always_kills_its_worker_ends_the_run(nodes, given, shards, tmp_path):
    for number in range(99):
        (tmp_path / f"token{number}").touch()
    with pytest.raises(CheckError, match="a worker died of it in each of 3 tries"):
        run_until(nodes, given, shards[:1], tmp_path / "out", {})


@pytest.mark.long
def test_the_shards_of_a_killed_node_are_made_by_others(nodes, given, whole, shards, tmp_path):
    (other,) = nodes.worker_nodes

    def kill():
        nodes.remove_node(other, allow_graceful=False)

    seen = run_until(nodes, given, shards, tmp_path / "out", {4: kill})
    nodes.add_node(**NODE)
    assert len(seen) == len(whole)
    assert rows(tmp_path / "out") == whole


@pytest.mark.long
def test_a_model_that_a_worker_cannot_open_is_one_line(run, nodes, given, tmp_path):
    options_ = ["--out", tmp_path / "out", "--ray", nodes.address, "--device", "openvino"]
    status, said = run("label", *given, *options_)
    assert (status, said.count("\n")) == (2, 2)
    assert "on node" in said
    assert "expected an execution provider of this onnxruntime" in said


@pytest.mark.long
def test_pictures_that_a_node_does_not_have_are_no_errors_of_pictures(
    nodes, given, shards, tmp_path
):
    for path in [tmp_path / "a.png", tmp_path / "b.png"]:
        path.write_bytes((given[1] / "0" / "00.png").read_bytes())
    one, two = (
        plan(find_items([str(tmp_path / name)], out=""), 1)[0] for name in ("a.png", "b.png")
    )
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileError, match=r"on node .*b\.png: expected the file that the run"):
        run_until(nodes, given, [one, two], tmp_path / "out", {})


@pytest.mark.long
def test_after_the_head_is_killed_and_restarted_the_same_command_goes_on(
    run, tmp_path, monkeypatch
):
    given = make_sources(tmp_path, 400)  # not done before the head is killed
    assert label(*given, "--out", tmp_path / "whole") == 1
    command = ["label", *given, "--out", tmp_path / "out", "--ray"]
    # Of one node: others might label what is left before they notice.
    with ray_cluster(num_cpus=2) as first:
        advance = on_cluster.Child.replies
        count = 0

        def replies(self, *arguments, **named):
            nonlocal count
            for reply in advance(self, *arguments, **named):
                count += 1
                if count == 4:
                    first.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
                yield reply

        with monkeypatch.context() as patched:
            patched.setattr(on_cluster.Child, "replies", replies)
            started = time.monotonic()
            status, said = run(*command, first.address)
        assert status == 1
        assert "expected that the cluster goes on" in said.splitlines()[-1]
        assert time.monotonic() - started < 300
    with ray_cluster(nodes=2) as second:
        status, said = run(*command, second.address)
    assert status == 1
    assert "shards are done already" in said
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
