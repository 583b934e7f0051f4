"""What may be released: models whose exact bytes passed verification."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cigpose_export.errors import ReleaseError
from cigpose_export.jobs.own_results import golden_folder, has_verdict, report_path
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime import CigposeError, Contract, read_contract
from cigpose_runtime.files import file_sha256
from cigpose_runtime.model_file.contract import Precision
from cigpose_runtime.model_file.frame_contract import FrameContract, read_packed
from cigpose_runtime.releases.golden_folder import RELEASED_AS
from cigpose_verify.report.document import Report

REHEARSAL, OWN_WEIGHTS = RELEASED_AS
"""What the file names of models begin with: of synthetic weights, of others than the published."""


Form = Precision | Literal["packed", "portable"]
"""What a file has made of a model: of these, a release always holds fp32, and none portable."""


@dataclass(frozen=True)
class VerifiedModel:
    """A model that may be released: its file, what the file says, and the verdict on it.

    variant: the published one that it is, None for somebody's own model. contract: of the model.
    packed: of a packed file.
    """

    variant: Variant | None
    path: Path
    contract: Contract
    report: Report
    packed: FrameContract | None = None

    @property
    def form(self) -> Form:
        return _form_of(self.contract, self.packed)

    @property
    def made_from(self) -> str | None:
        """The sha256 of the file that was packed or reduced; None where that is a checkpoint."""
        if self.packed is not None:
            return self.packed.packed_sha256
        derived = self.contract.derived_from
        return derived.sha256 if derived else None

    @property
    def name(self) -> str:
        """That of the file, and of what verify keeps beside it."""
        return self.path.stem

    @property
    def has_own_weights(self) -> bool:
        """Whether it is a published variant with real weights that are not the published ones."""
        if self.variant is None or self.contract.weights != "real":
            return False
        source = self.contract.source_checkpoint
        return source is None or source.sha256 != self.variant.sha256

    @property
    def released_name(self) -> str:
        if self.has_own_weights:
            return OWN_WEIGHTS + self.name
        return self.name if self.contract.weights == "real" else REHEARSAL + self.name


def verified_models(
    project: Project,
    folder: Path,
    *,
    allow_synthetic: bool,
    own_weights: bool = False,
    also: Collection[Form] = (),
) -> list[VerifiedModel]:
    """The models of the folder, the published variants first, each with the verdict on its bytes.

    also: the forms that come beside those in float32. Files that are no model under its own name
    are left where they are.
    Raises ReleaseError for synthetic weights, and for a published variant with other weights than
    the published ones, unless that is allowed; and for a file that was made from one that is not
    among the models.
    """
    there = [one for one in _files(project, folder) if one.form in ("fp32", *also)]
    order = {name: number for number, name in enumerate(project.variants)}
    there.sort(key=lambda one: (order.get(one.model, len(order)), one.model, one.form != "fp32"))
    if not there:
        raise ReleaseError(
            f"{folder}: expected exported models, found none; run make export-all verify-all"
        )
    models = [_verified(project.variants.get(one.model), one.path) for one in there]
    kinds = {one.contract.weights for one in models}
    if kinds != {"real"} and not allow_synthetic:
        synthetic = next(one for one in models if one.contract.weights != "real")
        raise ReleaseError(
            f"{synthetic.path.name}: expected real weights, found {synthetic.contract.weights} "
            "ones; export real ones, or rehearse with --allow-synthetic"
        )
    for one in models:
        if one.has_own_weights and not own_weights:
            raise _other_weights(one)
    if len(kinds) > 1:
        raise ReleaseError(f"{folder}: expected weights of one kind, found several; separate them")
    _require_origins(models)
    return models


def left_out(project: Project, folder: Path, also: Collection[Form]) -> list[str]:
    """The names of files in forms that a release with these does not hold."""
    others = [one for one in _files(project, folder) if one.form not in ("fp32", *also)]
    return [one.path.name for one in others]


@dataclass(frozen=True)
class _File:
    """A model's file. model: the name of the model that it is a form of."""

    path: Path
    model: str
    form: Form


def _files(project: Project, folder: Path) -> Iterator[_File]:
    """The files that are a model under its own name, by name."""
    for path in sorted(folder.glob("*.onnx")):
        if path.stem in project.variants and path.is_file():
            yield _File(path, path.stem, "fp32")  # whatever is in it: its verdict says
            continue
        try:
            contract, packed = _contracts(path)
        except CigposeError:
            continue
        if (packed.name if packed else contract.artefact_name) == path.stem:
            yield _File(path, str(contract.name), _form_of(contract, packed))


def _form_of(contract: Contract, packed: FrameContract | None) -> Form:
    if packed:
        return "packed"
    return contract.precision if contract.fixed_batch is None else "portable"


def _contracts(path: Path) -> tuple[Contract, FrameContract | None]:
    packed = read_packed(path)
    return packed.model if packed else read_contract(path), packed


def _require_origins(models: Sequence[VerifiedModel]) -> None:
    released = {one.report.sha256 for one in models}
    for one in models:
        if one.made_from is not None and one.made_from not in released:
            raise ReleaseError(
                f"{one.path.name}: expected the file that it was made from in the release, sha256 "
                f"{one.made_from[:12]}, found none; make it again, or add that file's form by "
                "--also"
            )


def _other_weights(one: VerifiedModel) -> ReleaseError:
    recorded = one.variant.sha256 if one.variant else None
    source = one.contract.source_checkpoint
    expected = f"sha256 {recorded[:12]}" if recorded else "whose sha256 is not recorded yet"
    return ReleaseError(
        f"{one.path.name}: expected the weights of the published checkpoint, {expected} in "
        f"checkpoints/manifest.toml, found those of {source.sha256[:12] if source else 'none'}; "
        "run make checkpoints and export again, or release your own with --own-weights, which says "
        "so in their names"
    )


def _verified(variant: Variant | None, path: Path) -> VerifiedModel:
    advice = "run make verify-all"
    if not report_path(path).is_file():
        raise ReleaseError(f"{path.name}: expected a parity report, found none; {advice}")
    report = Report.read(report_path(path))
    if report.sha256 != file_sha256(path):
        raise ReleaseError(
            f"{path.name}: expected the bytes that were verified, sha256 {report.sha256[:12]}, "
            f"but the file has changed; {advice}"
        )
    if report.foreign:
        raise ReleaseError(
            f"{path.name}: expected a model that was exported here, found one that was verified "
            f"as somebody else's; {advice}"
        )
    if not report.passed:
        raise ReleaseError(
            f"{path.name}: expected a model that passed verification, but it failed; "
            "fix it and verify again"
        )
    if not golden_folder(path).is_dir():
        raise ReleaseError(f"{path.name}: expected golden vectors, found none; {advice}")
    if not has_verdict(path):
        raise ReleaseError(
            f"{path.name}: expected a report and golden vectors that this user's own verification "
            f"wrote, found others; {advice}"
        )
    contract, packed = _contracts(path)
    return VerifiedModel(variant, path, contract, report, packed)
