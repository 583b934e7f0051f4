"""The documents: current with the code, without dead links, and with commands that exist."""

import ast
import json
import re
import tomllib
from importlib import import_module
from itertools import pairwise

import pytest
import yaml

import draw_architecture
import write_pages
from cigpose_export import __version__
from cigpose_export.cli.main import tools
from cigpose_runtime import __version__ as runtime_version
from cigpose_runtime.cli import COMMANDS
from rooms import CLONE

DOCUMENTS = sorted(
    path
    for path in [*CLONE.glob("*.md"), *CLONE.glob("docs/*.md"), *CLONE.glob("runtime/*.md")]
    if path.name != "LICENSE.md"
)
README = (CLONE / "README.md").read_text("utf-8")
SPEC = json.loads((CLONE / "tests" / "data" / "variants.json").read_text("utf-8"))["variants"]

by_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(CLONE).as_posix()
)


# What `make docs` writes


def test_the_picture_of_the_architecture_is_current():
    assert draw_architecture.TARGET.read_text("utf-8") == draw_architecture.draw(), "make docs"


def test_the_api_page_is_current():
    assert write_pages.API.read_text("utf-8") == write_pages.api_page(), "make docs"


def test_the_tables_of_rooms_are_current():
    page = write_pages.ARCHITECTURE.read_text("utf-8")
    assert page == write_pages.architecture_page(page), "make docs"


def test_arrows_that_a_longer_way_implies_are_left_out():
    arrows = {"a": frozenset("bcd"), "b": frozenset("cd"), "c": frozenset(), "d": frozenset("c")}
    assert draw_architecture.reduced(arrows) == {
        "a": frozenset("b"),
        "b": frozenset("d"),
        "c": frozenset(),
        "d": frozenset("c"),
    }
    assert draw_architecture.rows_of(arrows) == {"c": 0, "d": 1, "b": 2, "a": 3}


def test_no_room_lies_over_another_in_the_picture():
    rooms = re.findall(
        r'<g class="room"><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"',
        draw_architecture.draw(),
    )
    boxes = sorted((float(y), float(x), float(width)) for x, y, width in rooms)
    assert len(boxes) > 30
    for (y, x, width), (next_y, next_x, _) in pairwise(boxes):
        assert y != next_y or x + width < next_x


def test_a_docstring_becomes_prose_a_list_and_code():
    docstring = """Finds people.

    frame: (H, W, 3). Raises InputError
    for another.

    >>> find(frame)
    2
    """
    function = ast.parse(f'def find(frame: int, *, most: int = 3) -> int:\n    """{docstring}"""')
    (node,) = function.body
    assert isinstance(node, ast.FunctionDef)
    assert write_pages._described(node) == (
        "```python\nfind(frame: int, *, most: int = 3) -> int\n```\n\n"
        "Finds people.\n\n- `frame`: (H, W, 3).\n\nRaises InputError for another.\n\n"
        "```python\n>>> find(frame)\n2\n```\n"
    )


# Links, paths and commands


@by_document
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8"))
    local = [target for target in targets if not re.match(r"https?:|mailto:", target)]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_contributing_names_only_files_that_exist():
    text = (CLONE / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/.-]+/[\w/.-]*)`(?! \(to be written\))", text))
    assert len(named) > 30
    assert sorted(name for name in named if not (CLONE / name).exists() and "NAME" not in name) == [
        "cigpose_export/openmmlab/"  # of the package, not of the clone
    ]


@by_document
def test_make_targets_that_are_named_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (CLONE / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = path.read_text("utf-8")
    lines = re.findall(r"(?:`|^\$ |^)make ((?:[a-z-]+ ?)+)", text, re.MULTILINE)
    named = {word for line in lines for word in line.split() if not word.startswith("-")}
    assert named <= targets, path


@by_document
def test_commands_that_are_named_exist(path):
    text = path.read_text("utf-8")
    assert set(re.findall(r"cigpose-tools ([a-z]+)", text)) <= set(tools.commands)
    assert set(re.findall(r"cigpose-runtime ([a-z]+)", text)) <= set(COMMANDS)
    for module in re.findall(r"python -m (cigpose_[\w.]+)", text):
        assert import_module(module)


OTHER_ENGINES = {"daft", "pyspark.sql"}
"""Not installed here; test_label_cost_page runs the example of Daft where it is."""


@by_document
def test_python_examples_parse_and_import_names_that_exist(path):
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    for block in blocks if path != write_pages.API else []:  # signatures alone are no Python
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module) not in OTHER_ENGINES:
                module = import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# What the README says


def test_the_readme_states_what_the_publisher_reports():
    keys = {
        133: ["whole_ap", "body_ap", "foot_ap", "face_ap", "hand_ap"],
        17: ["ap", "ar"],
        14: ["ap", "ap_easy", "ap_medium", "ap_hard"],
    }
    for variant in SPEC:
        width, height = variant["input_size_wh"]
        figures = [variant["reported"][key] for key in keys[variant["num_keypoints"]]]
        row = f"| `{variant['name']}` | {width} x {height} | {' | '.join(map(str, figures))} |"
        assert row in README
    best = max(SPEC, key=lambda variant: variant["reported"].get("whole_ap", 0))
    assert f"{best['reported']['whole_ap']} AP" in README.split("\n\n")[1]


def test_models_stand_below_what_they_were_trained_on():
    trained_on = {
        "coco-wholebody": "*trained on COCO-WholeBody*",
        "coco-ubody": "*trained on COCO-WholeBody and UBody*",
        "coco": "*trained on COCO*",
        "crowdpose": "*trained on CrowdPose*",
    }
    for variant in SPEC:
        before = README.partition(f"| `{variant['name']}` |")[0]
        assert re.findall(r"\*trained on [^*]+\*", before)[-1] == trained_on[variant["dataset"]]


def test_a_check_is_not_called_a_proof():
    assert re.findall(r"\bprov(?:e|es|ed|en)\b", README) == []


# One version, and files of the platform


def test_there_is_one_version():
    project = tomllib.loads((CLONE / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((CLONE / "CITATION.cff").read_text("utf-8"))
    assert __version__ == runtime_version == citation["version"]
    assert f"cigpose-runtime=={runtime_version}" in project["dependencies"]
    for path in ("pyproject.toml", "runtime/pyproject.toml"):
        project = tomllib.loads((CLONE / path).read_text("utf-8"))["project"]
        assert "version" not in project
        assert project["dynamic"] == ["version"]


def test_dependabot_looks_where_pins_are():
    updates = yaml.safe_load((CLONE / ".github" / "dependabot.yml").read_text("utf-8"))["updates"]
    pip, actions = updates
    assert (pip["package-ecosystem"], actions["package-ecosystem"]) == ("pip", "github-actions")
    pinned = {f"/{path.parent.relative_to(CLONE)}".replace("/.", "/") for path in (
        CLONE / "pyproject.toml", CLONE / "runtime/pyproject.toml", CLONE / "requirements/lock.txt"
    )}  # fmt: skip
    assert set(pip["directories"]) == pinned


@pytest.mark.parametrize("name", ["bug", "feature", "parity"])
def test_issue_forms_have_fields_of_known_kinds_and_distinct_names(name):
    form = yaml.safe_load((CLONE / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text("utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
