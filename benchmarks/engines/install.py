"""A Python for each engine, with the packages that the table pins, under build/engines/."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.engines.table import Engine
from cigpose_runtime.errors import InstallError, last_line

HERE = Path(__file__).parent


def command_of(engine: Engine, folder: Path) -> list[str]:
    """What runs this engine, less the job; installs it under the folder if need be.

    Raises InstallError where it cannot be installed.
    """
    if engine.runner == "runner.mjs":
        return ["node", str(HERE / engine.runner), str(_npm_package(engine, folder))]
    runner = [str(HERE / "runners.py"), engine.runner]
    if engine.pins:
        return [str(_venv(engine, folder)), "-P", *runner]
    return [sys.executable, "-P", *runner]


def _venv(engine: Engine, folder: Path) -> Path:
    venv = _folder_of(engine, folder)
    python = venv / "bin" / "python"
    done = venv / "installed.txt"  # written last: half a venv is made anew
    pins = "\n".join(engine.pins)
    if not done.is_file() or done.read_text("utf-8") != pins:
        shutil.rmtree(venv, ignore_errors=True)
        _run([engine.python or sys.executable, "-P", "-m", "venv", str(venv)])
        pip = [str(python), "-P", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "install", "--no-deps", "--only-binary", ":all:", *engine.pins])
        if engine.beside_ours:
            (site,) = venv.glob("lib/python*/site-packages")
            (site / "ours.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
        done.write_text(pins, "utf-8")
    return python


def _npm_package(engine: Engine, folder: Path) -> Path:
    prefix = _folder_of(engine, folder)
    package = prefix / "node_modules" / engine.package
    if not package.is_dir():
        prefix.mkdir(parents=True, exist_ok=True)
        pins = [pin.replace("==", "@") for pin in engine.pins]
        _run(["npm", "install", "--ignore-scripts", "--silent", "--prefix", str(prefix), *pins])
    return package


def _folder_of(engine: Engine, folder: Path) -> Path:
    return folder / f"{engine.package}-{engine.version}"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InstallError(f"expected {command[0]}, found none; install it") from error
    if done.returncode != 0:
        raise InstallError(
            f"expected {Path(command[0]).name} {' '.join(command[1:4])} to install, found: "
            f"{last_line(done.stderr)}; look whether the package is to be had here"
        )
