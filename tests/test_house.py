"""The measures of the house: one name for one thing, one file for one question, few small helpers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.house import Module, defined_twice, modules, named_twice
from tests.choose_traced import CHOSEN
from tests.examples import each_row

SMALLEST = 40
MOST_LINES = 400
# Files below SMALLEST lines, and why they stand alone. `__init__.py` is what a package exports.
SMALL = {
    "etl/cli/commands/baseline.py": "one command, one file",
    "etl/cli/commands/plan_show.py": "one command, one file",
    "etl/cli/commands/schema.py": "one command, one file",
}
# Files above MOST_LINES, and names that two modules define: none may be added.
LARGE: set[str] = set()
TWICE: set[str] = set()
# Code lines per private function: what each package has reached and may not fall below. `.` is the root.
CODE_PER_PRIVATE_FUNCTION = {
    ".": 53,
    "amplitude": 72,
    "arrow": 54,
    "checkpoint": 46,
    "cli": 66,
    "encoder": 28,
    "init": 38,
    "job": 41,
    "listeners": 35,
    "mapper": 36,
    "pipeline": 50,
    "readback": 55,
    "reader": 36,
    "sandbox": 40,
    "sender": 29,
    "snapshot": 37,
    "spark": 35,
}


@pytest.fixture(scope="module")
def house() -> list[Module]:
    return modules()


def test_no_public_name_is_defined_twice(house: list[Module]) -> None:
    assert defined_twice(house).keys() == TWICE


def test_no_file_name_is_there_twice(house: list[Module]) -> None:
    assert named_twice(house) == {}


def test_no_file_is_small_without_a_reason_nor_too_large(house: list[Module]) -> None:
    files = [module for module in house if module.path.name != "__init__.py"]
    assert {str(module.path) for module in files if module.lines < SMALLEST} <= SMALL.keys()
    assert {str(module.path) for module in files if module.lines > MOST_LINES} <= LARGE


@each_row(("package", "least"), CODE_PER_PRIVATE_FUNCTION.items())
def test_helpers_are_few(house: list[Module], package: str, least: int) -> None:
    own = [module for module in house if module.package == package]
    private = sum(module.private_functions for module in own)
    assert sum(module.code for module in own) >= least * private


def test_every_package_is_measured(house: list[Module]) -> None:
    assert {module.package for module in house} == set(CODE_PER_PRIVATE_FUNCTION)


def test_tests_that_are_traced_or_slow_are_there() -> None:
    for test in (CHOSEN.read_text() + CHOSEN.with_name("slow.txt").read_text()).splitlines():
        if test.startswith("#"):
            continue
        file, *names = test.partition("[")[0].split("::")
        text = (Path(__file__).parents[1] / file).read_text()
        assert all(f"def {name}(" in text for name in names[-1:]), test


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
