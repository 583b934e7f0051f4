"""What each stage asks for, in words that are made from the constants that decide."""

from __future__ import annotations

from decimal import Decimal

from cigpose_verify.measures import keypoints, tolerances

STAGES = (
    "structure",
    "contract",
    "interface",
    "range",
    "intervention",
    "parity",
    "precision",
    "replacement",
    "batch",
    "keypoints",
    "frame",
    "pipeline",
)
"""The stages in order."""

OF_INTERVENTION = ("intervention", "replacement")
"""Those of them that are not applicable to a head without intervention, as RTMPose's."""


def gates() -> dict[str, str]:
    """What each stage asks for, by its name, in the order of STAGES."""
    texts = {
        "structure": "a well-formed, self-contained graph of standard operators",
        "contract": "the metadata match config and checkpoint",
        "interface": "outputs of the right names, shapes and types",
        "range": "of a file in reduced precision: finite, and in the range of its types",
        "intervention": "the graph chooses the keypoints that PyTorch chooses",
        "parity": (
            f"max|difference| ≤ {parity_tolerance()}, cosine ≥ {exact(tolerances.LEAST_COSINE)}; "
            "where the noise floor of a case is larger, what that explains"
        ),
        "precision": (
            f"error against float64 at most {precision_factor()} times the noise floor of the "
            "case, which is the worst of several float32 evaluations by PyTorch, "
            f"+ {exact(tolerances.PRECISION_FLOOR)}; in reduced precision, {reduced_factor()} "
            "times; at most one case in "
            f"{1 / tolerances.MOST_ILL_CONDITIONED:.0f} with a floor of more than "
            f"{_percent(tolerances.WORST_CONDITION)} of its outputs"
        ),
        "replacement": "with each keypoint replaced in turn, the head gives what PyTorch's gives",
        "batch": (
            "a row of a batch equals the same row run alone, to the parity gate; in float16, with "
            "one thread"
        ),
        "keypoints": (
            "the same bins wherever PyTorch is clear; of the confident keypoints on crops whose "
            f"noise floor is within the parity gate, at most {most_near_ties()}, or one, may be "
            "near ties; in reduced precision, the clearer half of all keypoints on such inputs"
        ),
        "frame": "of a packed file: from frame and boxes the runtime's keypoints, bit by bit",
        "pipeline": (
            "of a packed file: from frame and boxes the keypoints of MMPose's pipeline and model, "
            f"{_percent(keypoints.LEAST_IN_PLACE)} of a person's in the same bins, of all people "
            f"but one in {1 / keypoints.MOST_ELSEWHERE:.0f}; scores to the parity gate"
        ),
    }
    return {stage: texts[stage] for stage in STAGES}


def parity_tolerance() -> str:
    """The largest difference that the parity gate allows, as a formula."""
    scale = exact(100 * Decimal(str(tolerances.SCALE_QUANTILE)))
    return f"{exact(tolerances.RELATIVE_TOLERANCE)} · max(1, p{scale})"


def precision_factor() -> str:
    """How many times the noise floor the precision gate allows."""
    return exact(tolerances.PRECISION_FACTOR)


def reduced_factor() -> str:
    """How many times PyTorch's own error it allows a file in reduced precision."""
    return exact(tolerances.REDUCED_FACTOR)


def most_near_ties() -> str:
    """The largest share of near ties that the keypoints gate allows, in percent."""
    return _percent(keypoints.MOST_NEAR_TIES)


def exact(limit: float | Decimal) -> str:
    """A limit with all its digits: 4, 0.999999, 1e-4."""
    number = Decimal(str(limit)).normalize()
    return f"{number:e}" if abs(number) < Decimal("0.001") else f"{number:f}"


def _percent(share: float) -> str:
    return f"{exact(100 * Decimal(str(share)))} %"
