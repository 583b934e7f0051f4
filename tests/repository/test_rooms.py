"""The order of the rooms: who may import whom, and how long a module may be."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from rooms import CLONE, FOLDERS, ORDER, imports, modules, rooms_imported

LONGEST_MODULE = 350
MODULES = modules()
IMPORTED = imports(MODULES)
PACKAGES = list(FOLDERS)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_place_in_the_order(package):
    rooms = {module.room for module in MODULES.values() if module.package == package}
    assert sorted(ORDER[package]) == sorted(rooms), "docs/rooms.py says where a room belongs"


def test_packages_import_export_verify_runtime_in_this_order():
    wrong = [
        f"{name} imports {target}"
        for name, targets in IMPORTED.items()
        for target in sorted(targets)
        if PACKAGES.index(MODULES[target].package) < PACKAGES.index(MODULES[name].package)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_rooms_further_down(package):
    place = {room: number for number, room in enumerate(ORDER[package])}
    wrong = [
        f"{name} imports {target}"
        for name, targets in IMPORTED.items()
        for target in sorted(targets)
        if MODULES[name].package == MODULES[target].package == package
        and place[MODULES[target].room] < place[MODULES[name].room]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(IMPORTED).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_commands_that_are_imported_by_name_are_seen():
    """Without them the runtime's command line would seem to import nothing."""
    imported = rooms_imported(MODULES, IMPORTED)["cigpose_runtime", "cli"]
    assert ("cigpose_runtime", "commands/") in imported


def test_no_module_is_long_without_a_reason():
    lengths = {
        module.path.relative_to(CLONE).as_posix(): len(module.path.read_text("utf-8").splitlines())
        for module in MODULES.values()
        if "Long because" not in (ast.get_docstring(module.tree) or "")
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_MODULE} == {}, (
        'split it, or say "Long because ..." in its docstring'
    )
