"""The pages of a release: a card for each model, and the index."""

from __future__ import annotations

from collections.abc import Sequence

from cigpose_export.release.evidence.clients import (
    CALISCOPE_CARD,
    caliscope_card,
    rtmlib_snippet,
)
from cigpose_export.release.figures import (
    compared_with,
    parity_figures,
    published_figures,
    published_protocol,
    published_variant,
)
from cigpose_export.release.verified_models import VerifiedModel

PARITY_PAGE = "parity.html"
VECTORS = ".golden.zip"
"""What follows a model's name in that of the archive with its sums and golden vectors."""

_REHEARSAL = (
    "> **A rehearsal.** The weights are seeded noise in the form of the published ones. These "
    "files estimate nothing; do not publish them."
)
_OWN_WEIGHTS = (
    "> **Other weights than the published ones.** The models whose names begin with `own-weights-` "
    "have the published form, and no figure that was published holds for them."
)


def model_card(one: VerifiedModel, wheel: str) -> str:
    """What a model is, how accurate it is, how it was verified, and how to run it.

    wheel: the runtime's, beside it.
    """
    contract = one.contract
    file, source = f"{one.released_name}.onnx", contract.source_checkpoint
    vectors = f"{one.released_name}{VECTORS}"
    assert source is not None
    lines = [f"# {one.released_name}", ""]
    if contract.weights != "real":
        lines += [_REHEARSAL, ""]
    if one.has_own_weights:
        lines += [_OWN_WEIGHTS, ""]
    lines += [
        f"{_kind(one)}: {contract.num_keypoints} keypoints from {_input(one)}, as an ONNX file "
        "that carries everything needed to run it.",
        "",
        "## Run it",
        "",
        f"Put [`{file}`]({file}), [`{vectors}`]({vectors}), its sums and golden vectors, and "
        f"[the runtime]({wheel}) into a folder of their own.",
        "",
        "```console",
        f"$ python -m zipfile -e {vectors} .",
        f"$ sha256sum --check {one.released_name}.sha256",
        f'$ pip install "./{wheel}[cli]"',
        f"$ cigpose-runtime selftest {file}",
        f"$ cigpose-runtime image {file} photo.jpg {_people(one)}--save annotated/",
        "```",
        *_clients(one),
        "",
        "## Accuracy",
        "",
        *_accuracy(one),
        "",
        f"## Parity with {compared_with(one)}",
        "",
        *(f"- {what}: {found}" for what, found in parity_figures(one).items()),
        "",
        "## Where it comes from",
        "",
        f"- checkpoint: `{source.file}`, sha256 `{source.sha256}`",
        f"- file: sha256 `{one.report.sha256}`, {one.report.size:,} bytes",
        *([f"- made from the file of sha256 `{one.made_from}`"] if one.made_from else []),
        *_detector(one),
        f"- licence: {contract.license}",
        f"- {contract.attribution}",
    ]
    return "\n".join(lines) + "\n"


def _input(one: VerifiedModel) -> str:
    contract = one.contract
    if one.packed is None:
        crops = f"crops of {contract.input_w} x {contract.input_h} pixels"
        return crops if contract.precision == "fp32" else f"{crops}, in {contract.precision}"
    order = one.packed.frame_color_order.upper()
    return f"{order} frames" if one.packed.detector else f"{order} frames and boxes of people"


def _people(one: VerifiedModel) -> str:
    return "" if one.packed and one.packed.detector else "--whole-frame "


def _detector(one: VerifiedModel) -> list[str]:
    detector = one.packed.detector if one.packed else None
    if detector is None:
        return []
    return [f"- detector inside: sha256 `{detector.sha256}`, whose licence is its own"]


def _kind(one: VerifiedModel) -> str:
    if one.variant is not None:
        return f"CIGPose, size {one.variant.size}"
    return "Not one of the 14 published CIGPose models, but somebody's own"


def _accuracy(one: VerifiedModel) -> list[str]:
    if one.contract.weights != "real":
        return ["None: the weights are synthetic."]
    if one.variant is None:
        return [
            "None is published for this model. `cigpose-tools accuracy` measures it on data in "
            "COCO's form."
        ]
    variant = published_variant(one)
    if variant is None:
        return ["Not measured. `cigpose-tools accuracy` measures it on this file."]
    figures = [f"{name} {value}" for name, value in published_figures(variant).items()]
    return [
        f"As published for the checkpoint, on {published_protocol(variant)}: "
        f"{', '.join(figures)}. `cigpose-tools accuracy` measures it on this file."
    ]


def _clients(one: VerifiedModel) -> list[str]:
    """How to run it by other people's clients, as far as they can."""
    if one.packed:
        return []
    name, contract = one.released_name, one.contract
    lines = []
    if snippet := rtmlib_snippet(contract, name):
        lines += ["", "With [rtmlib](https://pypi.org/project/rtmlib/):", ""]
        lines += ["```python", *snippet.splitlines(), "```"]
    if caliscope_card(contract, name):
        card = f"{name}{CALISCOPE_CARD}"
        lines += [
            "",
            f"With [caliscope](https://pypi.org/project/caliscope/): put [`{card}`]({card}) beside "
            f"`{name}.onnx` in its folder of models.",
        ]
    return ["", "## Run it elsewhere", *lines] if lines else []


FRONT_MATTER = """\
---
license: {licence}
library_name: onnxruntime
pipeline_tag: keypoint-detection
tags:
- onnx
- pose-estimation
- whole-body
---
"""
"""What Hugging Face reads at the top of a README."""


def without_front_matter(page: str) -> str:
    """A README as it is shown elsewhere than on Hugging Face."""
    return page.partition("\n---\n")[2] if page.startswith("---\n") else page


def index_page(models: Sequence[VerifiedModel], wheel: str, rehearsal: bool) -> str:
    """The README of the release. wheel: the runtime's, beside it."""
    title = "CIGPose in ONNX" + (", a rehearsal" if rehearsal else "")
    first = models[0].released_name
    licences = {one.contract.license for one in models}
    front_matter = FRONT_MATTER.format(
        licence="apache-2.0" if licences == {"Apache-2.0"} else "other"
    )
    lines = [f"{front_matter}# {title}", ""]
    if rehearsal:
        lines += [_REHEARSAL, ""]
    if any(one.has_own_weights for one in models):
        lines += [_OWN_WEIGHTS, ""]
    lines += [
        "| model | keypoints | input (w x h) | precision | size | card |",
        "|---|--:|--:|---|--:|---|",
    ]
    for one in models:
        contract, name = one.contract, one.released_name
        size = _input(one) if one.packed else f"{contract.input_w} x {contract.input_h}"
        lines.append(
            f"| [`{name}.onnx`]({name}.onnx) | {contract.num_keypoints} | {size} | "
            f"{contract.precision} | {one.report.size / 1e6:.0f} MB | [card]({name}.md) |"
        )
    if own := [f"`{one.released_name}`" for one in models if one.variant is None]:
        lines += ["", f"Not among the 14 published CIGPose models: {', '.join(own)}."]
    lines += [
        "",
        "## Check it, then run it",
        "",
        "```console",
        "$ sha256sum --check SHA256SUMS",
        f'$ pip install "./{wheel}[cli]"',
        "$ cigpose-runtime check .",
        f"$ cigpose-runtime image {first}.onnx photo.jpg --whole-frame --save annotated/",
        "```",
        "",
        f"[`{PARITY_PAGE}`]({PARITY_PAGE}) shows that each file computes what its "
        "PyTorch model computes; `golden/` has what `selftest` replays. `manifest.json` names "
        "every file with size and hash, the checkpoints, and the versions that made them; "
        "`sbom.cdx.json` is their bill of materials, with a card for each model; "
        "`provenance.intoto.json` says from which sources they were built, and by whom. "
        "`cigpose_models.zip` holds all models in float32. If there is a `page.zip`, it holds a "
        "page that runs models in the browser: unpack it where a web server serves it. "
        f"Where this folder is published, `cigpose-runtime get {first} --from …` fetches one "
        "model of it. If there is a `model.sig`, `cigpose-runtime check . --public-key FILE` "
        "verifies it.",
        "",
        f"Licence: {models[0].contract.license}. {models[0].contract.attribution}."
        if len(licences) == 1
        else "Licences: each card names its model's.",
    ]
    return "\n".join(lines) + "\n"
