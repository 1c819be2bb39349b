"""The measures of the house: one name for one thing, one file for one question, few small helpers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.house import Module, defined_twice, modules, named_twice

# The packages of `etl` that keep the measures; "." is its root.
ROOMS = ("cli", "listeners", "sandbox")
# Modules of the root that keep them.
ROOT_MODULES = ("__main__.py", "errors.py", "text.py")
SMALLEST = 40
MOST_LINES = 400
CODE_PER_PRIVATE_FUNCTION = 35
# Files below SMALLEST lines, and why they stand alone.
SMALL = {
    "etl/cli/__init__.py": "the docstring of a package",
    "etl/cli/commands/__init__.py": "the docstring of a package",
    "etl/cli/commands/preview.py": "one command, one file",
    "etl/cli/commands/schema.py": "one command, one file",
    "etl/listeners/__init__.py": "what the package exports",
    "etl/sandbox/__init__.py": "what the package exports",
}


@pytest.fixture(scope="module")
def house() -> list[Module]:
    return modules()


def in_rooms(module: Module) -> bool:
    return module.package in ROOMS or (module.package == "." and module.path.name in ROOT_MODULES)


def kept(twice: dict[str, list[str]], house: list[Module]) -> dict[str, list[str]]:
    """Those that concern two of the rooms."""
    paths = {str(module.path) for module in house if in_rooms(module)}
    return {name: homes for name, homes in twice.items() if len(paths.intersection(homes)) > 1}


def test_no_public_name_is_defined_twice(house: list[Module]) -> None:
    assert kept(defined_twice(house), house) == {}


def test_no_file_name_is_there_twice(house: list[Module]) -> None:
    assert kept(named_twice(house), house) == {}


def test_no_file_is_small_without_a_reason_nor_too_large(house: list[Module]) -> None:
    lines = {str(module.path): module.lines for module in house if in_rooms(module)}
    assert {path for path, count in lines.items() if count < SMALLEST} == set(SMALL)
    assert {path for path, count in lines.items() if count > MOST_LINES} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_helpers_are_few(house: list[Module], room: str) -> None:
    own = [module for module in house if module.package == room]
    private = sum(module.private_functions for module in own)
    assert sum(module.code for module in own) >= CODE_PER_PRIVATE_FUNCTION * private


def test_what_is_counted(tmp_path: Path) -> None:
    for name, text in {
        "one.py": '"""A\nmodule."""\n\nimport os\n\n# why\nA = B = 1\n\n\ndef _f():\n    """What."""\n'
        '    return """x\ny"""\n\n\nclass C:\n    D: int\n\n    def _g(self): ...\n',
        "room/one.py": "def A(): ...\n",
        "sandbox/two.py": "A = 1\n",
        "room/__init__.py": "",
        "__init__.py": "",
    }.items():
        path = tmp_path / "etl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = modules(root=tmp_path)
    (one,) = [module for module in found if module.path == Path("etl/one.py")]
    assert (one.package, one.lines, one.code, one.imports, one.private_functions) == (".", 19, 7, 1, 2)
    assert one.public_names == ("A", "B", "C")
    assert defined_twice(found) == {"A": ["etl/one.py", "etl/room/one.py"]}
    assert named_twice(found) == {"one.py": ["etl/one.py", "etl/room/one.py"]}
