import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest
from torch import nn

from cigpose_export.modeling import build
from cigpose_export.modeling.cig_head import CIGHead
from cigpose_export.openmmlab import placeholders as openmmlab
from cigpose_export.openmmlab.placeholders import (
    PlaceholderUsedError,
    missing_packages_as_placeholders,
)

CLONE = Path(__file__).parents[2]


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a fresh process with `paths` at the front of sys.path."""
    setup = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", setup + code],
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def packages(monkeypatch):
    """Replaces the optional packages by made-up ones; their modules are forgotten afterwards."""
    names = {"made_up": "made_up", "made_up_too.part": "made_up_too.part"}
    monkeypatch.setattr(openmmlab, "OPTIONAL_PACKAGES", names)
    yield names
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("made_up")]:
        del sys.modules[name]


@pytest.fixture
def placeholder(packages):
    """The placeholder class of made_up.utils.Thing."""
    with missing_packages_as_placeholders():
        return importlib.import_module("made_up.utils").Thing


# Which packages


def test_a_missing_package_can_be_imported_while_the_guard_stands(packages):
    with missing_packages_as_placeholders() as missing:
        assert missing == ["made_up", "made_up_too.part"]
        module = importlib.import_module("made_up.deeply.nested")
        assert module.Anything.__module__ == "made_up.deeply.nested"


def test_the_placeholders_are_gone_afterwards(packages):
    with missing_packages_as_placeholders():
        importlib.import_module("made_up.utils")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_up")
    assert not [name for name in sys.modules if name.startswith("made_up")]
    assert not [f for f in sys.meta_path if isinstance(f, openmmlab._PlaceholderFinder)]


def test_the_placeholders_are_gone_after_an_error(packages):
    with pytest.raises(ZeroDivisionError), missing_packages_as_placeholders():
        importlib.import_module("made_up.utils")
        _ = 1 / 0
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_up")


def test_a_package_that_is_there_is_left_alone(packages, tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text("Thing = 7")
    monkeypatch.syspath_prepend(tmp_path)
    with missing_packages_as_placeholders() as missing:
        assert missing == ["made_up_too.part"]
        assert importlib.import_module("made_up").Thing == 7
    assert importlib.import_module("made_up").Thing == 7


def test_a_missing_part_leaves_the_rest_of_its_package(packages, tmp_path, monkeypatch):
    """As mmcv-lite, which has no compiled operators."""
    (tmp_path / "made_up_too").mkdir()
    (tmp_path / "made_up_too" / "__init__.py").write_text("here = True")
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("made_up_too")
    with missing_packages_as_placeholders() as missing:
        assert missing == ["made_up", "made_up_too.part"]
        part = importlib.import_module("made_up_too.part")
        assert isinstance(part.Thing, type)
        assert package.part is part
    assert package.here
    assert not hasattr(package, "part")


def test_another_missing_package_is_still_missing(packages):
    with missing_packages_as_placeholders(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_up_otherwise")


# What a placeholder does


def test_a_placeholder_raises_on_use(placeholder):
    for use in (placeholder, lambda: placeholder(1, key=2), lambda: placeholder.registry):
        with pytest.raises(PlaceholderUsedError) as caught:
            use()
        assert str(caught.value) == (
            "made_up.utils.Thing is needed, but made_up.utils is not installed: "
            "CIGPose inference does not use it; install the package to run code that does"
        )


def test_a_class_derived_from_a_placeholder_raises_on_use_and_names_the_placeholder(placeholder):
    class Derived(placeholder, nn.Module):
        pass

    with pytest.raises(PlaceholderUsedError, match=r"^made_up\.utils\.Thing is needed"):
        Derived()


def test_a_placeholder_can_stand_in_an_annotation(placeholder):
    assert Optional[placeholder] == placeholder | None  # noqa: UP045 - both forms occur


def test_a_placeholder_error_is_an_import_error():
    """So that code which tries an optional package and goes on without it does so."""
    assert issubclass(PlaceholderUsedError, ImportError)


# The import of MMPose


def test_after_the_import_the_missing_packages_are_missing():
    ended = run(
        "import importlib, cigpose_export.openmmlab, cigpose_export.openmmlab.placeholders as o\n"
        "import mmcv\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'mmdet']\n"
        "for name in o.OPTIONAL_PACKAGES:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(name, 'misses', error.name)\n"
    )
    expected = ["mmcv.ops misses mmcv._ext", "mmdet misses mmdet"]
    if importlib.util.find_spec("xtcocotools") is None:  # there where a C compiler was at setup
        expected.append("xtcocotools misses xtcocotools")
    assert ended.stdout.splitlines() == expected, ended.stderr


def test_mmpose_is_given_the_mmdet_that_is_installed(tmp_path):
    utils = tmp_path / "mmdet" / "utils"
    utils.mkdir(parents=True)
    (tmp_path / "mmdet" / "__init__.py").write_text("")
    (utils / "__init__.py").write_text("class ConfigType: ...\ndef reduce_mean(x): return x")
    ended = run(
        "import cigpose_export.openmmlab, mmdet.utils\n"
        "print(mmdet.__file__)\n"
        "print(sys.modules['mmpose.models.heads.hybrid_heads.yoloxpose_head'].reduce_mean(3))",
        tmp_path,
    )
    assert ended.stdout.splitlines() == [str(tmp_path / "mmdet" / "__init__.py"), "3"], ended.stderr


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("xtcocotools", "raise ValueError('numpy.dtype size changed')"),
        ("mmengine", "raise ImportError('no mmengine here')"),
    ],
)
def test_a_package_that_cannot_be_imported_is_an_install_error(tmp_path, package, code):
    """xtcocotools: what its wheel raises, which is built for another numpy."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(code)
    ended = run("import cigpose_export.openmmlab", tmp_path)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("cigpose_runtime.errors.InstallError: MMPose cannot be imported (")
    assert "run `make doctor`" in last
    assert ended.returncode != 0


# The head


@pytest.fixture
def registry(monkeypatch):
    """A model registry as MMPose's, empty."""
    empty = type(build.MODELS)("test")
    monkeypatch.setattr(build, "MODELS", empty)
    return empty


def test_the_head_is_registered_under_both_its_names(registry):
    assert build.register_head() == "cigpose_export.modeling.cig_head.CIGHead"
    assert registry.get("CIGHead") is registry.get("CausalGraphHead") is CIGHead


def test_registering_the_head_again_changes_nothing(registry):
    assert build.register_head() == build.register_head()


@pytest.mark.parametrize(
    "names", [["CIGHead"], ["CausalGraphHead"], ["CIGHead", "CausalGraphHead"]]
)
def test_the_head_of_a_fork_is_used_under_both_names(registry, names):
    fork = type("CIGHead", (nn.Module,), {"__module__": "mmpose_fork.heads"})
    for name in names:
        registry.register_module(name=name, module=fork)
    assert build.register_head() == "mmpose_fork.heads.CIGHead"
    assert registry.get("CIGHead") is registry.get("CausalGraphHead") is fork


@pytest.mark.parametrize("name", ["CIGHead", "CausalGraphHead"])
def test_a_config_may_name_the_head_either_way(tiny_project, name):
    (variant,) = tiny_project.variants
    config = build.load_config(tiny_project.config_path(variant))
    config.model.head.type = name
    assert type(build.build_reference(config).head) is CIGHead


def test_an_installed_fork_is_the_reference_and_the_doctor_says_so():
    ended = run(
        "from torch import nn\n"
        "from cigpose_export.openmmlab import MODELS\n"
        "fork = type('CIGHead', (nn.Module,), {'__module__': 'mmpose_fork.heads'})\n"
        "MODELS.register_module(module=fork)\n"
        "from cigpose_export.cli.doctor import examine\n"
        "from cigpose_export.project import Project\n"
        "findings = examine(Project.of_this_clone())\n"
        "from cigpose_export.modeling.build import register_head\n"
        "(finding,) = [f for f in findings if f.subject == 'reference head']\n"
        "print(finding.state, finding.found, finding.fix, sep='|')\n"
        "print(MODELS.get('CausalGraphHead') is fork)\n"
        "print('cigpose_export.modeling.cig_head' in sys.modules)\n"
    )
    assert ended.stdout.splitlines() == [
        "note|mmpose_fork.heads.CIGHead|exports are built from this CIGPose fork's own head",
        "True",
        "False",
    ], ended.stderr


# Who imports what

OPENMMLAB = {"mmengine", "mmcv", "mmpose", "mmdet", "mmpretrain", "xtcocotools"}
PACKAGES = {
    "export/cigpose_export": OPENMMLAB,
    "verify/cigpose_verify": {*OPENMMLAB, "torch", "onnxscript", "cigpose_export"},
    "runtime/cigpose_runtime": {
        *OPENMMLAB,
        "torch",
        "onnx",
        "onnxscript",
        "cigpose_export",
        "cigpose_verify",
    },
}

ALLOWED = {
    "export/cigpose_export/openmmlab/__init__.py": OPENMMLAB,
    "export/cigpose_export/accuracy/evaluate.py": {"xtcocotools"},  # measures AP with it
    "export/cigpose_export/cli/doctor.py": {"xtcocotools"},  # looks whether it can be imported
}


def imported_by(path: Path) -> set[str]:
    """The top-level packages that a module names in an import, or as text to import."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(("package", "banned"), PACKAGES.items(), ids=PACKAGES)
def test_imports_point_one_way(package, banned):
    modules = sorted((CLONE / package).rglob("*.py"))
    assert modules
    found = {}
    for path in modules:
        name = path.relative_to(CLONE).as_posix()
        if wrong := imported_by(path) & banned - ALLOWED.get(name, set()):
            found[name] = wrong
    assert found == {}


def test_openmmlab_is_where_the_mm_packages_are_imported():
    found = imported_by(CLONE / "export" / "cigpose_export" / "openmmlab" / "__init__.py")
    assert found & OPENMMLAB == {"mmengine", "mmcv", "mmpose"}


WRITES_SLOWLY = """
import pickle, sys
dump = pickle.dump
def slow(content, file, protocol):
    print("writing", flush=True)
    sys.stdin.read()
    dump(content, file, protocol)
pickle.dump = slow
"""
IMPORT_YAPF = (
    "from cigpose_export.openmmlab.yapf_cache import import_yapf_alone; import_yapf_alone()"
)


def test_a_process_waits_while_another_writes_yapfs_cache(tmp_path):
    def start(code):
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        )

    with start(WRITES_SLOWLY + IMPORT_YAPF) as first:
        assert first.stdout.readline() == "writing\n"
        assert [path.stat().st_size for path in tmp_path.rglob("*.pickle")] == [0]
        with start(IMPORT_YAPF) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=3)  # it would have failed by then
            first.communicate(timeout=60)
            _, complaint = second.communicate(timeout=60)
    assert (first.returncode, second.returncode, complaint) == (0, 0, "")
