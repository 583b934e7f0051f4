"""Replays what a released model, packed or not, answered when it was verified."""

from __future__ import annotations

from contextlib import nullcontext
from os import PathLike
from pathlib import Path

from cigpose_runtime.files import file_sha256
from cigpose_runtime.model_file.frame_contract import read_packed
from cigpose_runtime.model_file.reader import read_contract
from cigpose_runtime.releases.golden import OUTPUTS, Replayed, replay
from cigpose_runtime.releases.golden_document import read_golden_document
from cigpose_runtime.releases.golden_folder import golden_folder
from cigpose_runtime.releases.golden_frames import FRAME_OUTPUTS, replay_frame


def selftest(
    path: str | PathLike[str],
    *,
    golden: str | PathLike[str] | None = None,
    provider: str = "CPUExecutionProvider",
) -> tuple[list[Replayed], bool]:
    """Replays golden vectors; also says whether they were written for these very bytes.

    golden: their folder, by default the one beside the model that `golden_folder` finds.
    Raises FileError for vectors that are missing, damaged, or that allow more than verification
    does; OnnxFileError for a model that does not run, and what opening a model raises.
    """
    from cigpose_runtime.estimation.session import open_session

    path = Path(path)
    packed = read_packed(path)
    contract = packed.model if packed else read_contract(path)
    name = packed.name if packed else contract.artefact_name
    with golden_folder(path, name) if golden is None else nullcontext(Path(golden)) as folder:
        names = FRAME_OUTPUTS if packed else OUTPUTS
        sha256, sets = read_golden_document(folder, contract.num_keypoints, names)
        session = open_session(path, providers=[provider])
        replayed = [
            replay_frame(session, folder / one.folder, one, packed)
            if packed
            else replay(session, folder / one.folder, one, contract)
            for one in sets
        ]
    return replayed, sha256 == file_sha256(path)
