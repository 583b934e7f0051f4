"""Lets MMEngine find installed packages where setuptools no longer brings pkg_resources.

MMEngine 0.10.7 asks pkg_resources for the package that a config names in `_base_ = 'mmpose::…'`;
setuptools 82 removed it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def without_pkg_resources(config_module: Any) -> None:
    """Replaces the two functions of MMEngine's config module that need it, if it is missing."""
    if importlib.util.find_spec("pkg_resources") is None:
        config_module.is_installed = is_installed
        config_module.get_installed_path = get_installed_path


def is_installed(package: str) -> bool:
    """Whether a package of this name can be imported."""
    return importlib.util.find_spec(package) is not None


def get_installed_path(package: str) -> str:
    """The folder of a package. Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return str(Path(spec.origin).parent)
