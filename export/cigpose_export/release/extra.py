"""The extra `[release]`: the packages that releasing takes and exporting does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cigpose_runtime.errors import InstallError


@contextmanager
def release_extra() -> Iterator[None]:
    """For imports: raises InstallError with the line that installs a package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise InstallError(
            f"expected the packages of the extra [release], found no {package}; run in the "
            "clone: make -B setup"
        ) from error
