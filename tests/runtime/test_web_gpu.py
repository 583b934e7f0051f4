"""When the page runs a model on WebGPU: made-up GPUs that are right, wrong, slow or broken.

There is no GPU here. A module in the place of onnxruntime-web's for WebGPU runs such sessions on
the CPU, and changes what comes out.
"""

from contextlib import contextmanager

import pytest

from chromium import chromium
from cigpose_export.graph.derived_file import derive_file
from cigpose_runtime.web.server import PAGE_FOLDER
from packing import save
from web_page import Web, needs_the_page, served

pytestmark = needs_the_page

GPU = """
Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => ({}) } });
"""

WORKER = """
import "./gpu.mjs";
import "./own_worker.mjs";
"""

ENGINE_WITH_A_GPU = """
export * from "./ort.wasm.bundle.min.mjs";
import * as ort from "./ort.wasm.bundle.min.mjs";

const MUCH = 40; // runs in the place of one
const RUNS = { fast: { wasm: MUCH, webgpu: 1 }, slow: { wasm: 1, webgpu: MUCH } }.KIND;

export const InferenceSession = {
  async create(bytes, { executionProviders: [device] }) {
    if (!RUNS && device === "webgpu") throw new Error("the device was lost");
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    const factor = device === "webgpu" ? 1 + SHARE : 1;
    return {
      release: () => session.release(),
      async run(feeds) {
        let outputs;
        for (let runs = RUNS?.[device] ?? 1; runs > 0; runs--) outputs = await session.run(feeds);
        for (const { data } of Object.values(outputs)) {
          data.forEach((value, i) => (data[i] = value * factor));
        }
        return outputs;
      },
    };
  },
};
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    plain = save(folder, input_size_wh=(48, 64)).rename(folder / "fp32.onnx")
    derive_file(plain, "fp16", folder / "fp16.onnx", on_stage=lambda _: None)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def web(browser, folder, tmp_path):
    """Opens the page on a machine with a GPU of a kind, whose outputs are off by a share."""

    @contextmanager
    def open_page(kind, share=0.0):
        files = {
            "gpu.mjs": GPU,
            "worker.mjs": WORKER,
            "engine/ort.webgpu.bundle.min.mjs": ENGINE_WITH_A_GPU.replace("KIND", kind).replace(
                "SHARE", str(share)
            ),
        }
        stubs = {"own_worker.mjs": PAGE_FOLDER / "worker.mjs"}
        for name, text in files.items():
            stubs[name] = tmp_path / name.replace("/", "-")
            stubs[name].write_text(text)
        with served(folder, stubs=stubs) as url:
            page = Web(browser, url, tmp_path)
            yield page
            assert page.complaints() == ([], [])

    return open_page


@pytest.mark.parametrize(
    ("model", "kind", "share", "said"),
    [
        ("fp32.onnx", "fast", 0.005, "runs on WebGPU (takes "),
        (
            "fp32.onnx",
            "fast",
            0.02,
            "the CPU (WebGPU refused: its scores are not those of the CPU)",
        ),
        ("fp16.onnx", "fast", 0.02, "runs on WebGPU (takes "),
        ("fp16.onnx", "fast", 0.1, "the CPU (WebGPU refused: its scores are not those of the CPU)"),
        ("fp32.onnx", "slow", 0, "the CPU (WebGPU refused: it takes "),
        (
            "fp32.onnx",
            "broken",
            0,
            "WebGPU refused: expected a model that onnxruntime-web runs, found: the device was",
        ),
    ],
)
def test_webgpu_runs_where_it_is_right_and_faster(web, model, kind, share, said):
    with web(kind, share) as page:
        page.choose("models", model)
        page.wait_for_status(said)


@pytest.mark.parametrize(
    ("kind", "share", "said"),
    [
        ("slow", 0, "runs on WebGPU (takes "),
        ("fast", 0.02, "its scores are not those of the CPU"),
    ],
)
def test_webgpu_that_is_asked_for_may_be_slow_but_not_wrong(web, kind, share, said):
    with web(kind, share) as page:
        page.choose("device", "WebGPU")
        page.choose("models", "fp32.onnx")
        page.wait_for_status(said)


def test_without_webgpu_the_line_says_so(browser, folder, tmp_path):
    with served(folder) as url:
        page = Web(browser, url, tmp_path)
        page.choose("models", "fp32.onnx")
        page.wait_for_status("fp32.onnx runs on the CPU (no WebGPU in this browser)")
        page.choose("device", "WebGPU")
        page.wait_for_status("expected WebGPU, found none in this browser; choose the CPU")
        assert page.complaints() == ([], [])
