"""What a config has to be: a top-down SimCC estimator whose outputs the runtime can decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cigpose_export.openmmlab import Config, GetBBoxCenterScale, SimCCLabel, TopdownAffine
from cigpose_runtime.model_file.contract_fields import BOX_PADDING

CIG_HEADS = ("CIGHead", "CausalGraphHead")
"""Both names of the CIGPose head."""

RTM_HEADS = ("RTMCCHead", "RTMWHead")
"""The heads of RTMPose and DWPose, and of RTMW."""

HEADS = (*CIG_HEADS, *RTM_HEADS)

KINDS = {
    "DWPoseDistiller": "which trains a student; give the student's config, {student}",
    "BottomupPoseEstimator": "a bottom-up model; only top-down ones are exported",
    "PoseLifter": "a model that lifts poses to 3D; only 2D ones are exported",
}
"""What to say of MMPose's other kinds of estimators."""


def require_topdown_simcc(config: Config) -> list[str]:
    """What keeps a config from being exported; none if nothing does.

    Where a config leaves to its parts what our own say at the top, `codec` and `box_padding`, and
    where the head has MMPose's default split ratio, they are filled in. Raises AttributeError,
    KeyError, TypeError or ValueError where a part is missing or of another type.
    """
    if "model" not in config:
        return ["expected a top-level model, found none"]
    if problem := _kind_problem(config):
        return [problem]
    head = config.model.head
    config.setdefault("codec", head.get("decoder") or {})
    if not config.codec:
        return ["expected a codec, as model.head.decoder, found none"]
    head.setdefault("simcc_split_ratio", 2.0)  # RTMCCHead's and RTMWHead's own
    config.codec.setdefault("simcc_split_ratio", 2.0)  # SimCCLabel's own
    config.setdefault("box_padding", _box_padding(config))
    return [*_unsupported(config), *_contradictions(config)]


def type_name(part: Mapping[str, Any]) -> str | None:
    """The name of a part's type without scope or module, whether text or a class."""
    kind = part.get("type")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", None)
    return name and name.rpartition(".")[2]


def _kind_problem(config: Config) -> str | None:
    model = config.model
    kind = type_name(model)
    if kind != "TopdownPoseEstimator":
        why = KINDS.get(str(kind), "which is not exported")
        why = why.format(student=model.get("student_cfg", "model.student_cfg"))
        return f"expected a model of type TopdownPoseEstimator, found {kind}, {why}"
    head = type_name(model.head)
    if head not in HEADS:
        return (
            f"expected a SimCC head ({', '.join(HEADS)}), found {head}; models with heatmap, "
            "regression and other heads are not exported"
        )
    return None


def _unsupported(config: Config) -> Iterator[str]:
    """Settings by which MMPose's keypoints would differ from those that the runtime decodes."""
    model, codec, decoder = config.model, config.codec, config.model.head.get("decoder")
    if (kind := type_name(codec)) != SimCCLabel.__name__:
        yield f"codec: expected type SimCCLabel, found {kind}"
    # decode_visibility, as RTMW-x has it, adds an output; keypoints and scores stay the same.
    if codec.get("use_dark") or (decoder or {}).get("use_dark"):
        yield "codec: expected no use_dark, found it, which the runtime does not decode"
    if (model.get("test_cfg") or {}).get("output_keypoint_indices") is not None:
        yield (
            "test_cfg: expected no output_keypoint_indices, found them; all keypoints of the head "
            "are exported"
        )
    preprocessor = model.get("data_preprocessor") or {}
    for setting in ("mean", "std"):
        if len(preprocessor.get(setting) or (0, 0, 0)) != 3:
            yield f"data_preprocessor: expected {setting} of 3 channels, found other ones"
    affine = _step(config, TopdownAffine)
    if affine is not None and affine.get("use_udp"):
        yield "TopdownAffine: expected no use_udp, found it, by which the runtime does not crop"


def _contradictions(config: Config) -> Iterator[str]:
    head, codec = config.model.head, config.codec
    for owner, ratio in (("head", head.simcc_split_ratio), ("codec", codec.simcc_split_ratio)):
        if not ratio > 0:
            yield f"{owner}: expected simcc_split_ratio > 0, found {ratio}"
    if head.simcc_split_ratio != codec.simcc_split_ratio:
        yield (
            f"simcc_split_ratio is {head.simcc_split_ratio} in the head "
            f"and {codec.simcc_split_ratio} in the codec"
        )
    if tuple(head.input_size) != tuple(codec.input_size):
        yield f"input_size is {head.input_size} in the head, {codec.input_size} in codec"
    used = [i for pair in head.get("keypoint_connections", ()) for i in pair]
    used += [i for group in head.get("keypoint_groups", ()) for i in group]
    if used and not 0 <= min(used) <= max(used) < head.out_channels:
        yield (
            f"the graph names keypoints {min(used)} to {max(used)}, "
            f"but out_channels is {head.out_channels}"
        )


def _box_padding(config: Config) -> float:
    """That of the pipeline for testing, else MMPose's default."""
    step = _step(config, GetBBoxCenterScale) or {}
    return float(step.get("padding", BOX_PADDING))


def _step(config: Config, kind: type) -> Mapping[str, Any] | None:
    """The first step of a type in the pipeline by which a config tests."""
    loader = config.get("test_dataloader") or config.get("val_dataloader") or {}
    pipeline = loader.get("dataset", {}).get("pipeline") or config.get("val_pipeline") or ()
    return next((step for step in pipeline if type_name(step) == kind.__name__), None)
