"""A model of the user's own: a config and a name, in the place of a published variant."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cigpose_export.errors import ConfigError, VariantError

SHIPPED = "mmpose:"
"""What the name of a config begins with that lies inside the installed MMPose."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names that are the same file name on every file system."""

NEAR = 3
"""How many similar configs an error names."""


@dataclass(frozen=True)
class OwnModel:
    """What is exported and verified by `--config`.

    config: an MMEngine config, which is run when it is loaded. keypoints_path: a JSON file with
    what neither the config nor the checkpoint says of the keypoints.
    """

    name: str
    config: Path
    keypoints_path: Path | None = None

    @classmethod
    def of(
        cls, config: str, name: str | None, keypoints: Path | None, taken: Iterable[str]
    ) -> OwnModel:
        """From the options of a command.

        config: a path, or `mmpose:` and a path within MMPose's own configs. name: by default that
        of the config's file. taken: names that it must not have. Raises ConfigError and
        VariantError.
        """
        path = config_path(config)
        own = cls(name or path.stem, path, keypoints)
        if not NAME.fullmatch(own.name):
            raise VariantError(
                f"expected a name of letters, digits, '.', '_' and '-', found {own.name!r}; "
                "give another with --name"
            )
        if own.name.lower() in {other.lower() for other in taken}:
            raise VariantError(
                f"{own.name!r} is the name of a published variant, found it for a model of "
                "--config; give another with --name"
            )
        return own


def config_path(config: str) -> Path:
    """The file that `--config` names; raises ConfigError, with similar ones, where there is none.

    Of the configs of MMPose, `.py` may be left out, and the folders too where the file's name is
    enough.
    """
    if not config.startswith(SHIPPED):
        path = Path(config)
        if not path.is_file():
            raise ConfigError(
                f"{config}: expected a config file, found none; correct --config, or name one of "
                f"MMPose's own as {SHIPPED}PATH"
            )
        return path.absolute()
    folder = shipped_configs()
    wanted = config.removeprefix(SHIPPED).removeprefix("configs/").removesuffix(".py") + ".py"
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    found = [key for key in there if key == wanted or key.endswith(f"/{wanted}")]
    if len(found) == 1:
        return there[found[0]]
    if not found:
        by_name = {Path(key).stem: key for key in there}
        names = difflib.get_close_matches(Path(wanted).stem, by_name, n=NEAR, cutoff=0.5)
        near = [by_name[name] for name in names]
    else:
        near = found[:NEAR]
    hint = f"did you mean {' or '.join(SHIPPED + key for key in near)}?" if near else "correct it"
    raise ConfigError(
        f"{config}: expected one config in {folder}, found {len(found) or 'none'}; {hint}"
    )


def shipped_configs() -> Path:
    """The folder of the configs that the installed MMPose ships; MMPose is not imported for it."""
    spec = importlib.util.find_spec("mmpose")
    for package in (spec and spec.submodule_search_locations) or ():
        # Where its wheel has them, and where a clone that is installed in place has them.
        for folder in (Path(package, ".mim", "configs"), Path(package).parent / "configs"):
            if folder.is_dir():
                return folder
    raise ConfigError(
        f"--config {SHIPPED}PATH: expected MMPose with its configs, found none; "
        "run `make doctor`, or give the config as a file"
    )
