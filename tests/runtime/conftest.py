"""A model of random weights, and MMPose's own code as the other side of comparisons."""

import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import onnx
import pytest

from tiny_onnx import tiny_model


@pytest.fixture
def model(tmp_path):
    """A file with 133 keypoints that runs in no time and sees nothing."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model(num_keypoints=133, seed=3).SerializeToString())
    return path


@pytest.fixture
def save(tmp_path):
    """Writes a detector's model; returns the file."""

    def write(model):
        path = tmp_path / "detector.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture(scope="session")
def mmpose() -> SimpleNamespace:
    """The parts of MMPose that pre- and postprocessing are compared with."""
    if find_spec("mmpose") is None:
        pytest.skip("mmpose is not installed")
    from cigpose_export.openmmlab.placeholders import missing_packages_as_placeholders

    with missing_packages_as_placeholders(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmengine.structures import InstanceData  # noqa: TID251
        from mmpose import codecs, models, structures  # noqa: TID251
        from mmpose.datasets import transforms  # noqa: TID251
        from mmpose.models.utils import tta  # noqa: TID251
        from mmpose.structures import bbox  # noqa: TID251
    return SimpleNamespace(
        GetBBoxCenterScale=transforms.GetBBoxCenterScale,
        InstanceData=InstanceData,
        PoseDataPreprocessor=models.PoseDataPreprocessor,
        PoseDataSample=structures.PoseDataSample,
        SimCCLabel=codecs.SimCCLabel,
        TopdownAffine=transforms.TopdownAffine,
        TopdownPoseEstimator=models.TopdownPoseEstimator,
        flip_vectors=tta.flip_vectors,
        get_warp_matrix=bbox.get_warp_matrix,
    )
