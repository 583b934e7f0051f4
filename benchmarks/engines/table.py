"""The engines, each with the packages that it takes; a new one is a line here and a runner."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from cigpose_runtime.web.engine import VERSION as WEB


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    runner: a function of runners.py; `runner.mjs` for Node. package: the engine's own, which
    names its version. pins: all that is installed for it, with nothing else (`pip --no-deps`); none
    for what our own Python has. python: another one than ours. beside_ours: it sees our packages,
    too, behind its own. one_by_one: it knows no batch; a file with a fixed one is for one person.
    """

    name: str
    runner: str
    package: str
    pins: tuple[str, ...] = ()
    python: str | None = None
    beside_ours: bool = False
    one_by_one: bool = False

    @property
    def version(self) -> str:
        """Of the engine's package."""
        pinned = dict(pin.split("==") for pin in self.pins)
        return pinned.get(self.package) or version(self.package)

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} ({self.version})"


NUMPY = "numpy==2.4.6"
OPENVINO = ("openvino==2026.4.1", NUMPY)
ONNX2TF = (
    "onnx2tf==2.6.9",
    "ai-edge-litert==2.1.2",
    "backports.strenum==1.2.8",
    "flatbuffers==25.12.19",
    "h5py==3.14.0",
    "ml_dtypes==0.5.4",
    "mpmath==1.3.0",
    "numpy==2.2.6",
    "onnx==1.20.1",
    "onnx-ir==1.1.0",
    "onnxoptimizer==0.4.2",
    "onnxruntime==1.26.0",
    "onnxscript==0.6.2",
    "onnxsim==0.6.5",
    "opencv-python-headless==4.13.0.92",
    "packaging==26.4",
    "protobuf==7.35.1",
    "psutil==5.9.5",
    "rich==15.0.0",
    "pygments==2.21.0",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "sne4onnx==2.0.1",
    "sng4onnx==2.0.1",
    "sympy==1.14.0",
    "tqdm==4.67.1",
    "typing_extensions==4.16.0",
)

REFERENCE = Engine("onnxruntime", "onnxruntime", "onnxruntime")
"""What all others are compared with: `verify` has compared it with PyTorch."""

NCNN = ("ncnn==1.0.20261020", "pnnx==20261020", NUMPY)
OPENCV_5 = ("opencv-python-headless==5.0.0.93", NUMPY)

ENGINES = (
    Engine("onnxruntime", "onnxruntime", "onnxruntime", ("onnxruntime==1.16.3", "numpy==1.26.4")),
    Engine("onnxruntime-web", "runner.mjs", "onnxruntime-web", (f"onnxruntime-web=={WEB}",)),
    Engine("onnx.reference", "onnx_reference", "onnx"),
    Engine("OpenVINO, float32 asked for", "openvino_f32", "openvino", OPENVINO),
    Engine("OpenVINO as it comes", "openvino_default", "openvino", OPENVINO),
    Engine("OpenCV", "opencv", "opencv-python-headless"),
    Engine("OpenCV", "opencv", "opencv-python-headless", OPENCV_5),
    Engine("MNN", "mnn", "mnn", ("mnn==3.6.1", NUMPY)),
    Engine("ncnn through pnnx", "ncnn", "ncnn", NCNN, one_by_one=True),
    Engine("tract", "tract", "tract", ("tract==0.23.9", NUMPY)),
    Engine("onnx2torch", "onnx2torch", "onnx2torch", ("onnx2torch==1.5.15",), beside_ours=True),
    Engine("LiteRT through onnx2tf", "litert", "onnx2tf", ONNX2TF, python="python3.12"),
)
