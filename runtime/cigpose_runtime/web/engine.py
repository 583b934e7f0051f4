"""onnxruntime-web, which the page runs models with: which release, and its files by their hash."""

from __future__ import annotations

from pathlib import Path

from cigpose_runtime.errors import CheckError, FileError
from cigpose_runtime.files import file_sha256

VERSION = "1.30.0"

ENGINE_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": (
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da"
    ),
}
"""Those in its dist/ that the page loads: for the CPU, and for WebGPU; 41 MB."""

LICENSE = Path(__file__).parent / "engine_license.txt"
"""Microsoft's, which the npm package leaves out and every copy of its files has to have."""


def engine_files(package: Path) -> dict[str, Path]:
    """The files of ENGINE_FILES by name, in the folder of the npm package, and their licence.

    Raises FileError where one is missing, CheckError for another release of it.
    """
    found = {name: package / "dist" / name for name in ENGINE_FILES}
    if not package.is_dir():
        raise FileError(
            f"expected onnxruntime-web {VERSION} in {package}, found no such folder; run: "
            f"npm install --ignore-scripts onnxruntime-web@{VERSION}"
        )
    for name, path in found.items():
        if file_sha256(path, f"a file of onnxruntime-web {VERSION}") != ENGINE_FILES[name]:
            raise CheckError(
                f"{path}: expected that of onnxruntime-web {VERSION}, found other content; run: "
                f"npm install --ignore-scripts onnxruntime-web@{VERSION}"
            )
    return {**found, "LICENSE.txt": LICENSE}
