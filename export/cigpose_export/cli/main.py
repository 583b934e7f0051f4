"""The command `cigpose-tools`, and the one place where errors become exit statuses."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cigpose_export import __version__
from cigpose_export.cli.accuracy import accuracy, draw
from cigpose_export.cli.checkpoints import checkpoints
from cigpose_export.cli.demo import demo
from cigpose_export.cli.doctor import doctor
from cigpose_export.cli.export import export, list_variants
from cigpose_export.cli.options import INTERRUPTED, say_error
from cigpose_export.cli.release import release
from cigpose_export.cli.verify import verify
from cigpose_export.project import Project
from cigpose_runtime import CigposeError
from cigpose_runtime.terminal import echo


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; exits 0 when done, 1 when a check failed, 2 for bad usage or input."""
    try:
        status = tools.main(args=arguments, prog_name="cigpose-tools", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().splitlines():
            echo(line, err=True)
        status = error.exit_code
    except CigposeError as error:
        say_error(error)
        status = error.exit_status
    except OSError as error:
        say_error(CigposeError(f"{error}; make room or correct the permissions, then run it again"))
        status = CigposeError.exit_status
    except MemoryError:
        say_error(CigposeError("expected more memory than there is; free some, or --jobs 1"))
        status = CigposeError.exit_status
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    sys.exit(status or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--project",
    "root",
    type=click.Path(path_type=Path),
    help="Clone whose configs and checkpoints to use  [default: the one installed from]",
)
@click.pass_context
def tools(context: click.Context, root: Path | None) -> None:
    """Exports the CIGPose pose estimators to ONNX and checks what comes out."""
    context.obj = Project(root) if root else Project.of_this_clone()


for command in (list_variants, export, verify, checkpoints, accuracy, draw, demo, release, doctor):
    tools.add_command(command)


if __name__ == "__main__":
    main()
