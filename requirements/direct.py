"""Prints the pins of pyproject.toml, one a line: what `make setup` installs by lock.txt's hashes.

pip checks no hashes of what an editable install brings along, so that comes after them.
"""

import sys
import tomllib
from pathlib import Path

TABLES = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))


def pins() -> list[str]:
    """Those of the project, its extras and its dependency groups, without the runtime here."""
    project = TABLES["project"]
    optional = [*project["optional-dependencies"].values(), *TABLES["dependency-groups"].values()]
    lists = [project["dependencies"], *optional]
    return [pin for each in lists for pin in each if not pin.startswith("cigpose-runtime")]


if __name__ == "__main__":
    sys.stdout.write("\n".join(pins()) + "\n")
