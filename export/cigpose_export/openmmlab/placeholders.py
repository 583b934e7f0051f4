"""Stands in for optional packages while MMPose is being imported.

MMPose 1.3.2 imports a few optional packages that are not on the inference path and cannot be
installed beside a current torch: mmcv's compiled ops, mmdet and xtcocotools. For those of them that
are missing there are inert placeholders, each of which raises `PlaceholderUsedError` on use. A
package that is installed is left alone.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Collection, Iterator, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

# Package -> the module that makes it usable (mmcv-lite ships mmcv.ops without its compiled part).
OPTIONAL_PACKAGES = {"mmcv.ops": "mmcv._ext", "mmdet": "mmdet", "xtcocotools": "xtcocotools"}


class PlaceholderUsedError(ImportError):
    """Raised when code reaches for a package that is not installed and was assumed to be unused."""


class _PlaceholderMeta(type):
    """Makes a placeholder class, and any class derived from one, raise on every use.

    Use is call, instantiation and access to a public attribute; deriving from it is not.
    """

    def __call__(cls, *_args: object, **_kwargs: object) -> Any:
        raise cls._used()

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise cls._used()

    def _used(cls) -> PlaceholderUsedError:
        placeholder = next(c for c in reversed(cls.__mro__) if isinstance(c, _PlaceholderMeta))
        module = placeholder.__module__
        return PlaceholderUsedError(
            f"{module}.{placeholder.__name__} is needed, but {module} is not installed: "
            "CIGPose inference does not use it; install the package to run code that does"
        )


class _PlaceholderModule(types.ModuleType):
    """A module whose every public name is a placeholder class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        placeholder = _PlaceholderMeta(name, (), {"__module__": self.__name__})
        setattr(self, name, placeholder)
        return placeholder


class _PlaceholderFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds placeholder modules for the packages it was given, and nothing else."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = packages

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.packages):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _PlaceholderModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leaves the module empty: its names appear on access."""


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


@contextlib.contextmanager
def missing_packages_as_placeholders() -> Iterator[list[str]]:
    """Lets `import` succeed on those `OPTIONAL_PACKAGES` that are missing, and yields their names.

    On leaving, the placeholder modules are gone again: a later import of a missing package fails
    as it always does.
    """
    missing = [name for name, proof in OPTIONAL_PACKAGES.items() if _is_missing(proof)]
    finder = _PlaceholderFinder(missing)
    sys.meta_path.insert(0, finder)
    try:
        yield missing
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            if isinstance(module, _PlaceholderModule):
                del sys.modules[name]
                parent_name, _, child = name.rpartition(".")
                parent = sys.modules.get(parent_name)
                if parent is not None and parent.__dict__.get(child) is module:
                    delattr(parent, child)
