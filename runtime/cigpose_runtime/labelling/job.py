"""One run of label: what is done already, who makes the rest, and what the folder says then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cigpose_runtime.errors import CheckError
from cigpose_runtime.labelling import cluster as on_cluster
from cigpose_runtime.labelling import local
from cigpose_runtime.labelling.cluster import Cluster
from cigpose_runtime.labelling.folder import Folder
from cigpose_runtime.labelling.manifest import look, remove_others, write_manifest
from cigpose_runtime.labelling.rows import Counts
from cigpose_runtime.labelling.shards import Shard
from cigpose_runtime.model_file.contract import Contract


def run_by(
    cluster: Cluster | None,
    workers: int | None,
    shards: Sequence[Shard],
    make_worker: local.MakeWorker,
    on_picture: Callable[[int], None],
) -> None:
    """Labels shards on a cluster or on this machine, as `local.run`.

    workers: None for all that fit on the cluster, for one on this machine.
    """
    if cluster is None:
        local.run(shards, make_worker, workers or 1, on_picture)
    else:
        on_cluster.run(shards, make_worker, cluster, workers, on_picture)


def finish(
    folder: Folder,
    about: Mapping[str, Any],
    contract: Contract,
    shards: Sequence[Shard],
    run: Callable[[Sequence[Shard]], None],
    *,
    say: Callable[[str], None] = lambda _line: None,
    anew: bool = False,
) -> Mapping[str, Counts]:
    """Makes the shards that are not there yet; returns the counts of all, by their files' names.

    about: how they are made, as of `look`. run: labels shards. say: takes what users have to know.
    anew: whether results that were made in another way are removed, which `look` refuses.
    Raises InputError where another run is under way in the folder, what `look` and `run` raise,
    and CheckError where shards are missing after all.
    """
    with folder.alone():
        if anew:
            remove_others(folder, about)
        found = look(folder, about, shards)
        if found.foreign:
            say(f"{folder.name}: left alone what label did not write: {', '.join(found.foreign)}")
        if found.done:
            say(f"{folder.name}: {len(found.done)} of {len(shards)} shards are done already")
        if to_do := [shard for shard in shards if shard.name not in found.done]:
            write_manifest(folder, about, contract, None)
            run(to_do)
        done = look(folder, about, shards).done
        if missing := [shard.name for shard in shards if shard.name not in done]:
            raise CheckError(
                f"{folder.name}: expected {len(shards)} shards, found {len(missing)} missing, the "
                f"first is {missing[0]}; give all workers the same folder, and run the same "
                "command again"
            )
        write_manifest(folder, about, contract, done)
    return done
