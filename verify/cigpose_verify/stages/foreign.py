"""A file that somebody else exported: what it says of itself, beside what it is compared with.

It owes nobody our stamps, our operators or a free batch. What it does not say is noted; what it
says and is not so fails.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from cigpose_runtime import Contract
from cigpose_runtime.errors import error_context, quoted
from cigpose_runtime.model_file.contract import load_document
from cigpose_runtime.model_file.contract_fields import METADATA_KEY
from cigpose_runtime.model_file.onnx_graph import OnnxFile
from cigpose_runtime.model_file.reader import contract_from_metadata, contract_of

LABELS = frozenset(
    {"name", "dataset", "weights", "source_checkpoint", "tools", "license", "attribution"}
)
"""Fields that change nothing of what a model computes or how it is run."""

OF_THE_GRAPH = frozenset({"schema_version", "num_keypoints", "opset", "precision", "derived_from"})
"""Fields that the graph itself tells, and those of the metadata's own form."""


@dataclass(frozen=True)
class Statements:
    """What a foreign file is run by, what it says wrongly, and what else is worth knowing."""

    contract: Contract
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def read_statements(
    described: OnnxFile, expected: Contract, metadata: bytes | None = None
) -> Statements:
    """Compares what a file says of itself, or `metadata` say in its place, with a contract.

    Raises `CigposeError` for a file of another interface than the expected model's.
    """
    texts = [value for key, value in described.metadata_props if key == METADATA_KEY]
    text = metadata if metadata is not None else next(iter(texts), None)
    if text is None:
        found, stated = replace(expected, opset=described.opset), set()
    else:
        found, stated = contract_from_metadata(text, described), _stated(load_document(text))
    with error_context(f"compared with {expected.name}"):
        contract_of(described, override=found)
    batch = fixed_batch(described)
    names = [field.name for field in fields(Contract) if field.name not in OF_THE_GRAPH]
    missing = [name for name in names if name not in stated]
    others = {
        name: f"{name}: expected {quoted(getattr(expected, name))}, found "
        f"{quoted(getattr(found, name))}"
        for name in names
        if name in stated and getattr(found, name) != getattr(expected, name)
    }
    return Statements(
        found,
        tuple(line for name, line in others.items() if name not in LABELS),
        (
            *([f"not stamped: {', '.join(missing)}"] if missing else []),
            *(line for name, line in others.items() if name in LABELS and name != "tools"),
            *([f"batches of {batch} alone were tried: the graph takes no other"] if batch else []),
        ),
    )


def _stated(document: dict[str, object]) -> set[str]:
    """The fields that a document in either form has a value for."""
    stated = {key for key, value in document.items() if value is not None}
    inner = document.get("normalization", document.get("normalisation"))
    return stated | ({"mean", "std"} & inner.keys() if isinstance(inner, dict) else set())


def fixed_batch(described: OnnxFile) -> int | None:
    """The one batch size that a graph takes, None for any."""
    (taken,) = described.inputs
    batch = taken.shape[0] if taken.shape else None
    return batch if isinstance(batch, int) else None
