"""Where a model's golden vectors lie: in golden/NAME, or beside the model as assets of GitHub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cigpose_runtime.errors import FileError
from cigpose_runtime.releases.manifest import asset_name, is_safe_name, require_safe_names

RELEASED_AS = ("rehearsal-", "own-weights-")
"""What a release puts before the names of models that are not the published ones."""

_DOCUMENT = "golden.json"


@contextmanager
def golden_folder(model: Path, name: str | None = None) -> Iterator[Path]:
    """The folder with the golden vectors of a model file, for as long as the block runs.

    They are looked for by the file's own name first. name: what the model is called in its own
    metadata, which is asked next, as browsers rename what they download twice; the names of a
    release may put a word before it. Those with the names of GitHub's assets get a folder
    of links, or of copies.
    Raises FileError where there are none, CheckError for assets whose names leave the folder.
    """
    beside = model.parent
    names = [model.stem]
    if name is not None and is_safe_name(name):  # the file's author may have chosen any
        names += [name, *(f"{word}{name}" for word in RELEASED_AS)]
    for one in names:
        if (beside / "golden" / one / _DOCUMENT).exists():
            yield beside / "golden" / one
            return
    for one in names:
        prefix = asset_name(f"golden/{one}/")
        if (beside / f"{prefix}{_DOCUMENT}").exists():
            with tempfile.TemporaryDirectory(prefix="cigpose-golden-") as folder:
                _link(beside, prefix, Path(folder))
                yield Path(folder)
            return
    raise FileError(
        f"{model}: expected its golden vectors in golden/{model.stem} beside it, found none; "
        "unpack its NAME.golden.zip there, or say where they are: selftest --golden DIR"
    )


def _link(beside: Path, prefix: str, folder: Path) -> None:
    assets = {asset.name: asset for asset in beside.iterdir() if asset.name.startswith(prefix)}
    paths = {name: name.removeprefix(prefix).replace("--", "/") for name in assets}
    require_safe_names(list(paths.values()))
    for name, asset in assets.items():
        target = folder / paths[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(asset.absolute())
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(asset, target)
