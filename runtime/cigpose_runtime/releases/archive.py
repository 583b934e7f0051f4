"""Unpacks a release from a ZIP archive by anyone: checked before, and bounded while it is read."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from cigpose_runtime.errors import CheckError, CigposeError, first_line
from cigpose_runtime.files import open_file
from cigpose_runtime.releases.folder import is_carried, naming_of, said_of_carried
from cigpose_runtime.releases.manifest import (
    MANIFEST,
    MANIFEST_BYTES,
    SIGNATURE,
    SIGNATURE_BYTES,
    SUMS,
    read_manifest,
    require_safe_names,
)

_CHUNK_BYTES = 1 << 20
"""Also the most that zipfile may ask for at once: its list of entries, as long as a manifest."""

_LARGEST_RATIO = 100
"""Of what an archive holds to its size. Weights are not compressible; the pages are 10-fold."""

# The others may take gigabytes to unpack a few bytes, and no release needs them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_TOP_FOLDER = re.compile(r"[\w()+-][\w()+,. -]*")


@contextmanager
def unpacked(path: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """A folder with the content of the archive at `path`, for as long as the block runs.

    Entries for folders are passed over, one folder around all files is left out, and `say` is told
    what transports have added, which is not unpacked.
    Raises FileError where there is no file, CheckError for an archive that is damaged, that its
    manifest does not describe, or that is not safe to unpack.
    """
    with open_file(path, "a released folder or ZIP archive") as file:
        try:
            archive = zipfile.ZipFile(cast(BinaryIO, _Bounded(file)))
        except Exception as error:  # zipfile's parsers raise whatever they trip over
            raise CheckError(
                f"{path}: expected a released folder or ZIP archive, found no archive "
                f"({first_line(error)}); fetch it again"
            ) from error
        with archive, tempfile.TemporaryDirectory(prefix="cigpose-release-") as folder:
            try:
                _extract(archive, path.stat().st_size, Path(folder), say)
            except CigposeError:
                raise
            except Exception as error:  # as above
                raise CheckError(
                    f"{path}: expected a sound ZIP archive, found a damaged one "
                    f"({first_line(error)}); fetch it again"
                ) from error
            yield Path(folder)


class _Bounded:
    """A file for zipfile to read from, which believes lengths that the file itself states."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(min(size, _CHUNK_BYTES + 1) if size >= 0 else _CHUNK_BYTES + 1)
        if len(content) > _CHUNK_BYTES:
            raise zipfile.BadZipFile(f"a list of entries of more than {_CHUNK_BYTES} bytes")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _extract(
    archive: zipfile.ZipFile, packed: int, folder: Path, say: Callable[[str], None]
) -> None:
    top = _top_folder([entry.filename for entry in archive.infolist()])
    named = [(entry.filename.removeprefix(top), entry) for entry in archive.infolist()]
    entries = {name: entry for name, entry in named if not name.endswith("/") and name}
    if MANIFEST not in entries:
        raise CheckError(f"{MANIFEST}: expected it in the archive, found none; fetch it again")
    _write(archive, entries[MANIFEST], folder / MANIFEST, MANIFEST_BYTES)
    manifest = read_manifest(folder)
    name_of = naming_of(set(entries), manifest)
    sizes = {name_of(file.path): file.size for file in manifest.files}
    sizes |= {SUMS: MANIFEST_BYTES, SIGNATURE: SIGNATURE_BYTES}
    carried = {name for name, _ in named if name not in sizes and is_carried(name)}
    ours = [name for name, _ in named if name and name not in carried]
    for name in ours:
        if name.endswith("/"):  # listed any number of times, and never made
            require_safe_names([name[:-1]])
    require_safe_names([name for name in ours if not name.endswith("/")])
    if carried:
        say(said_of_carried(sorted(carried)))
    entries = {name: entries[name] for name in ours if name in entries and name != MANIFEST}
    if foreign := sorted(set(entries) - set(sizes)):
        raise CheckError(f"{foreign[0]}: expected no such file, the manifest lacks it; remove it")
    whole = sum(entry.file_size for entry in entries.values())
    most = min(_LARGEST_RATIO * packed + _CHUNK_BYTES, shutil.disk_usage(folder).free)
    if whole > most:
        raise CheckError(
            f"{archive.filename}: expected at most {most / 1e6:.0f} MB when unpacked "
            f"({_LARGEST_RATIO} times its size, and what is free here), found {whole / 1e6:.0f}; "
            "unpack it yourself where there is room"
        )
    for name, entry in entries.items():
        _write(archive, entry, folder / name, sizes[name])


def _top_folder(names: Sequence[str]) -> str:
    """The one folder that everything lies in, with its slash, as file managers and GitHub pack it.

    Empty if there is none, or for a name that leads elsewhere.
    """
    tops = {name.partition("/")[0] for name in names if not is_carried(name)}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if _TOP_FOLDER.fullmatch(top) and top not in names else ""


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int) -> None:
    if entry.compress_type not in _METHODS:
        raise CheckError(
            f"{entry.filename}: expected it stored or deflated, found method "
            f"{entry.compress_type}; unpack the archive yourself"
        )
    if entry.file_size > most:
        raise CheckError(
            f"{entry.filename}: expected at most {most} bytes, found {entry.file_size}; fetch the "
            "archive again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # In chunks: read() without a size inflates the whole entry, whatever file_size says.
    with archive.open(entry) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK_BYTES)
