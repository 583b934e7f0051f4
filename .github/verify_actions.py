"""Verifies that each action in the workflows is pinned to the commit of the tag beside it.

Needs git and the network: it asks each action's repository. `--at` names another place for these
than https://github.com. Exit status 1 where one differs, 2 where one cannot be asked.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

WORKFLOWS = Path(__file__).parent / "workflows"
USES = re.compile(r"uses: *([\w.-]+/[\w.-]+)@(\S+)(?: +# +(\S+))?")


def commit_of(repository: str, tag: str) -> str | None:
    """The commit of a tag, also where that is an object of its own; None where there is none."""
    names = (f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}")
    ended = subprocess.run(
        ["git", "ls-remote", repository, *names], capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        sys.stderr.write(f"{repository}: cannot be asked ({ended.stderr.strip()})\n")
        raise SystemExit(2)
    found = dict(reversed(line.split("\t")) for line in ended.stdout.splitlines())
    return found.get(names[1]) or found.get(names[0])


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at", default="https://github.com", help="where the repositories are")
    parser.add_argument("--workflows", type=Path, default=WORKFLOWS)
    options = parser.parse_args()
    texts = [path.read_text("utf-8") for path in sorted(options.workflows.glob("*.yml"))]
    wrong = 0
    for action, pin, tag in sorted({use for text in texts for use in USES.findall(text)}):
        commit = commit_of(f"{options.at}/{action}", tag) if tag else None
        if commit != pin:
            wrong += 1
            found = commit or "no such tag"
            sys.stderr.write(f"{action}: expected {pin} to be {tag or 'tagged'}, found {found}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
