"""Runs a model in one engine, in that engine's own Python: `python runners.py ENGINE JOB.json`.

A function for each engine: it loads the model, and returns what runs it on the images. The file
imports nothing of this repository, and each engine only in its function. It leaves `simcc_x` and
`simcc_y`, raw float32, in the job's folder, and seconds.json: wall and CPU seconds of each round.
runner.mjs does the same in Node.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Run = Callable[[], Sequence[Any]]

OUTPUTS = ["simcc_x", "simcc_y"]
SECONDS = "seconds.json"


@dataclass(frozen=True)
class Job:
    """What a runner is asked for. images: a file of raw float32 of this shape (n, 3, h, w)."""

    model: str
    images: str
    shape: list[int]
    out: str
    threads: int
    rounds: int

    def file(self, suffix: str) -> str:
        """Where an engine's converter may write."""
        return str(Path(self.out) / f"converted{suffix}")


def onnxruntime(job: Job, images: Images) -> Run:
    """Microsoft's, on the CPU: the reference, and an old release of it."""
    session = _session(job)
    return lambda: list(session.run(OUTPUTS, {"input": images}))


def one_by_one(job: Job, images: Images) -> Run:
    """The same, person after person."""
    session = _session(job)
    singles = np.split(images, len(images))

    def run() -> Sequence[Any]:
        outputs = [session.run(OUTPUTS, {"input": image}) for image in singles]
        return [np.concatenate(some) for some in zip(*outputs, strict=True)]

    return run


def _session(job: Job) -> Any:
    import onnxruntime as ort  # noqa: TID251 (the caller has switched its telemetry off)

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.log_severity_level = 4
    return ort.InferenceSession(job.model, options, providers=["CPUExecutionProvider"])


def onnx_reference(job: Job, images: Images) -> Run:
    """The evaluator of the ONNX standard itself, in numpy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(job.model)
    return lambda: list(evaluator.run(OUTPUTS, {"input": images}))


def openvino_f32(job: Job, images: Images) -> Run:
    """With float32 asked for."""
    return _openvino(job, images, {"INFERENCE_PRECISION_HINT": "f32"})


def openvino_default(job: Job, images: Images) -> Run:
    """As it comes: in bfloat16 where the processor can."""
    return _openvino(job, images, {})


def _openvino(job: Job, images: Images, settings: dict[str, str]) -> Run:
    import openvino

    settings = {**settings, "INFERENCE_NUM_THREADS": str(job.threads)}
    compiled = openvino.Core().compile_model(job.model, "CPU", settings)

    def run() -> Sequence[Any]:
        found = compiled([images])
        return [found[name] for name in OUTPUTS]

    return run


def opencv(job: Job, images: Images) -> Run:
    """cv2.dnn, whichever engine of it takes the file."""
    import cv2

    cv2.setNumThreads(job.threads)
    net = cv2.dnn.readNetFromONNX(job.model)

    def run() -> Sequence[Any]:
        net.setInput(images, "input")
        return net.forward(OUTPUTS)

    return run


def mnn(job: Job, images: Images) -> Run:
    """Alibaba's, through its converter."""
    import MNN.nn
    import MNN.numpy

    target = job.file(".mnn")
    tool = Path(sys.prefix) / "bin" / "mnnconvert"
    _tool(tool, "-f", "ONNX", "--modelFile", job.model, "--MNNModel", target, "--bizCode", "")
    settings = {"backend": 0, "numThread": job.threads, "precision": "high"}
    manager = MNN.nn.create_runtime_manager((settings,))
    module = MNN.nn.load_module_from_file(target, ["input"], OUTPUTS, runtime_manager=manager)

    def run() -> Sequence[Any]:
        fed = MNN.numpy.array(images)
        return [output.read() for output in module.onForward([fed])]

    return run


def ncnn(job: Job, images: Images) -> Run:
    """Tencent's, through pnnx; it knows no batch, so people go in one by one."""
    import ncnn

    shape = ",".join(map(str, (1, *images.shape[1:])))
    param, weights = job.file(".ncnn.param"), job.file(".ncnn.bin")
    model = Path(job.file(".onnx"))  # pnnx writes beside it
    model.symlink_to(job.model)
    pnnx = Path(ncnn.__file__).parents[1] / "pnnx" / "pnnx"  # its Python wrapper wants PyTorch
    written = f"ncnnparam={param}", f"ncnnbin={weights}"
    _tool(pnnx, str(model), f"inputshape=[{shape}]", "fp16=0", *written)
    net = ncnn.Net()
    net.opt.num_threads = job.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(param) != 0 or net.load_model(weights) != 0:
        raise RuntimeError("ncnn cannot load what pnnx wrote")

    def run() -> Sequence[Any]:
        found: list[list[Any]] = []
        for image in images:
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(image))
                outputs = [extractor.extract(name) for name in ("out0", "out1")]
                if any(code != 0 for code, _ in outputs):
                    raise RuntimeError("ncnn stops in the middle of the graph")
                found.append([np.array(output) for _, output in outputs])
        return [np.stack(one) for one in zip(*found, strict=True)]

    return run


def tract(job: Job, images: Images) -> Run:
    """Sonos's, in Rust; on one thread."""
    import tract

    runnable = tract.onnx().load(job.model).into_model().into_runnable()
    return lambda: [output.to_numpy() for output in runnable.run([images])]


def onnx2torch(job: Job, images: Images) -> Run:
    """Back to a PyTorch module."""
    from unittest.mock import MagicMock

    import torch

    # Only for NMS and RoIAlign, which no pose model has; its wheel wants PyTorch with CUDA.
    sys.modules["torchvision"] = sys.modules["torchvision.ops"] = MagicMock()
    from onnx2torch import convert

    torch.set_num_threads(job.threads)
    module = convert(job.model).eval()
    fed = torch.from_numpy(images)

    def run() -> Sequence[Any]:
        with torch.no_grad():
            return [output.numpy() for output in module(fed)]

    return run


def litert(job: Job, images: Images) -> Run:
    """Google's LiteRT, formerly TensorFlow Lite, through onnx2tf; it wants channels last."""
    import onnx2tf
    from ai_edge_litert.interpreter import Interpreter

    folder = job.file("")
    onnx2tf.convert(
        input_onnx_file_path=job.model,
        output_folder_path=folder,
        tflite_backend="flatbuffer_direct",
        non_verbose=True,
    )
    (path,) = Path(folder).glob("*float32.tflite")
    interpreter = Interpreter(str(path), num_threads=job.threads)
    interpreter.allocate_tensors()
    (fed,) = interpreter.get_input_details()
    last = images if fed["shape"][1] == 3 else images.transpose(0, 2, 3, 1)
    outputs = sorted(interpreter.get_output_details(), key=lambda output: int(output["shape"][-1]))

    def run() -> Sequence[Any]:
        interpreter.set_tensor(fed["index"], np.ascontiguousarray(last))
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in outputs]

    return run


def _tool(program: Path, *arguments: str) -> None:
    """Runs a converter."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"{program.name} ends with {done.returncode}: {' '.join(last)}")


def main(engine: Callable[[Job, Images], Run], job: Job) -> None:
    """Runs once for the outputs, and then for the times."""
    run = engine(job, np.fromfile(job.images, np.float32).reshape(job.shape))
    for name, output in zip(OUTPUTS, run(), strict=True):
        np.asarray(output, np.float32).tofile(Path(job.out) / name)
    seconds = []
    for _ in range(job.rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    (Path(job.out) / SECONDS).write_text(json.dumps(seconds), "utf-8")


if __name__ == "__main__":
    try:
        main(globals()[sys.argv[1]], Job(**json.loads(Path(sys.argv[2]).read_text("utf-8"))))
    except Exception as error:  # noqa: BLE001 (an engine may raise anything; it is told in one line)
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
