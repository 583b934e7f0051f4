"""The bill of materials of a release, as CycloneDX: the pinned packages that made it."""

from __future__ import annotations

import datetime
import re
import uuid
from pathlib import Path

from cigpose_export import __version__
from cigpose_export.project import Project
from cigpose_export.release.extra import release_extra
from cigpose_runtime.files import file_sha256

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s#;]+)", re.MULTILINE)
_PINS = ("lock.txt", "openmmlab.txt", "build.txt")


def pinned_packages(project: Project) -> list[tuple[str, str]]:
    """Name and version of all packages that setup installs for making a release, sorted."""
    folder = project.root / "requirements"
    pins = {pin for name in _PINS for pin in _PIN.findall((folder / name).read_text("utf-8"))}
    return sorted(pins)


def write_sbom(project: Project, target: Path, epoch: int) -> None:
    """Writes CycloneDX 1.6 JSON; the serial number follows from the pins, the time from `epoch`.

    Raises InstallError without the extra [release].
    """
    with release_extra():
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL

    pins = pinned_packages(project)
    hashes = "".join(file_sha256(project.root / "requirements" / name) for name in _PINS)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, hashes))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    made = Component(
        name="cigpose-toolchain",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="cigpose-toolchain",
    )
    bom.metadata.component = made
    parts = []
    for name, version in pins:
        purl = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        part = Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=purl.to_string(),
        )
        bom.components.add(part)
        parts.append(part)
    bom.register_dependency(made, parts)
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", "utf-8")
