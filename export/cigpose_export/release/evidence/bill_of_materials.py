"""The bill of materials of a release, as CycloneDX: its models, and the packages that made them."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cigpose_export import __version__
from cigpose_export.project import Project
from cigpose_export.release.evidence.model_card import cyclonedx_model_card
from cigpose_export.release.extra import release_extra
from cigpose_export.release.source import PINS, pinned_packages
from cigpose_export.release.verified_models import VerifiedModel
from cigpose_runtime.files import file_sha256
from cigpose_runtime.web.engine import VERSION

if TYPE_CHECKING:
    from cyclonedx.model.component import Component


def write_bill_of_materials(
    project: Project,
    models: Sequence[VerifiedModel],
    target: Path,
    epoch: int,
    *,
    has_page: bool = False,
) -> None:
    """Writes CycloneDX 1.7 JSON; the serial number follows from what is in it, the time from
    `epoch`. has_page: whether the release holds the web page, and so its engine.

    Raises InstallError without the extra [release].
    """
    with release_extra():
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot7
        from packageurl import PackageURL

    pins = [("pypi", *pin) for pin in pinned_packages(project)]
    if has_page:
        pins.append(("npm", "onnxruntime-web", VERSION))
    of_models = [one.report.sha256 for one in models]
    of_pins = [file_sha256(project.root / name) for name in PINS] + [VERSION] * has_page
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, "".join(of_models + of_pins)))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    made = Component(
        name="cigpose-toolchain",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="cigpose-toolchain",
    )
    bom.metadata.component = made
    packages = []
    for registry, name, version in pins:
        purl = PackageURL(registry, None, name.lower().replace("_", "-"), version)
        package = Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=purl.to_string(),
        )
        packages.append(package)
    parts = [*packages, *map(_model, models)]
    bom.components.update(parts)
    bom.register_dependency(made, parts)
    document = json.loads(JsonV1Dot7(bom).output_as_string())
    # The library does not know model cards yet.
    cards = {_reference(one): cyclonedx_model_card(one) for one in models}
    for part in document["components"]:
        if part["bom-ref"] in cards:
            part["modelCard"] = cards[part["bom-ref"]]
    target.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _reference(one: VerifiedModel) -> str:
    return f"{one.released_name}.onnx"


def _model(one: VerifiedModel) -> Component:
    """A model as a part of the release; its ancestor is the checkpoint."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    contract, source = one.contract, one.contract.source_checkpoint
    assert source is not None
    assert contract.license is not None
    kind = ComponentType.MACHINE_LEARNING_MODEL
    checkpoint = Component(
        name=source.file,
        type=kind,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=source.sha256)],
        bom_ref=f"{source.file} of {_reference(one)}",
    )
    return Component(
        name=one.released_name,
        version=__version__,
        type=kind,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.report.sha256)],
        licenses=[LicenseFactory().make_from_string(contract.license)],
        description=contract.attribution,
        pedigree=Pedigree(ancestors=[checkpoint]),
        bom_ref=_reference(one),
    )
