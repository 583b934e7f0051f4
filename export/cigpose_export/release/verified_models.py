"""What may be released: models whose exact bytes passed verification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cigpose_export.errors import ReleaseError
from cigpose_export.jobs.own_results import golden_folder, has_verdict, report_path
from cigpose_export.project import Project
from cigpose_export.variants import Variant
from cigpose_runtime import CigposeError, Contract, read_contract
from cigpose_runtime.files import file_sha256
from cigpose_runtime.releases.golden_folder import RELEASED_AS
from cigpose_verify.report.document import Report

REHEARSAL, OWN_WEIGHTS = RELEASED_AS
"""What the file names of models begin with: of synthetic weights, of others than the published."""


@dataclass(frozen=True)
class VerifiedModel:
    """A model that may be released: its file, what the file says, and the verdict on it.

    variant: the published one that it is, None for somebody's own model.
    """

    variant: Variant | None
    path: Path
    contract: Contract
    report: Report

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
    project: Project, folder: Path, *, allow_synthetic: bool, own_weights: bool = False
) -> list[VerifiedModel]:
    """The models of the folder, the published variants first, each with the verdict on its bytes.

    Files that are no model under its own name, as packed ones, are left where they are.
    Raises ReleaseError for synthetic weights, and for a published variant with other weights than
    the published ones, unless that is allowed.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.onnx")) if path.is_file()}
    published = [files[name] for name in project.variants if name in files]
    others = [path for name, path in files.items() if name not in project.variants]
    found = [*published, *(path for path in others if _name_in(path) == path.stem)]
    if not found:
        raise ReleaseError(
            f"{folder}: expected exported models, found none; run make export-all verify-all"
        )
    models = [_verified(project.variants.get(path.stem), path) for path in found]
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
    return models


def left_out(folder: Path) -> list[str]:
    """The names of files in reduced precision, which no release holds."""
    return [p.name for p in sorted(folder.glob("*.onnx")) if _precision_in(p) not in (None, "fp32")]


def _precision_in(path: Path) -> str | None:
    try:
        return read_contract(path).precision
    except CigposeError:
        return None


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
    return VerifiedModel(variant, path, read_contract(path), report)


def _name_in(path: Path) -> str | None:
    """The name of the model in a file; None for a file of another kind."""
    try:
        return read_contract(path).name
    except CigposeError:
        return None
