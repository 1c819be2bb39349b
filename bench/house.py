"""The measures of the code: what `tests/test_house.py` holds, and the figures of a report.

    python -m bench.house            files, code lines, private functions per code line, by package
    python -m bench.house PACKAGE    the same by file

Code lines have no blanks, comments and docstrings; those of imports are counted apart.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Module:
    """A file of a package: its path below the root, its lines of each kind, and its top-level names."""

    path: Path
    lines: int
    code: int
    imports: int
    private_functions: int
    public_names: tuple[str, ...]

    @property
    def package(self) -> str:
        """The package below the root package, or `.` for a module of the root package itself."""
        return self.path.parts[1] if len(self.path.parts) > 2 else "."


def modules(package: str = "etl", root: Path = ROOT) -> list[Module]:
    """Measure every file of a package."""
    return [_measured(path, root) for path in sorted((root / package).rglob("*.py"))]


def _measured(path: Path, root: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    docstrings = {line for node in nodes if isinstance(node, _SCOPES) for line in _docstring_lines(node)}
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    imports = {
        line
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    strings = {
        line
        for node in nodes
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = strings | {
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if (begin := line.lstrip()) and not begin.startswith("#")
    }
    return Module(
        path=path.relative_to(root),
        lines=len(text.splitlines()),
        code=len(code - docstrings - imports),
        imports=len(imports),
        private_functions=sum(name.startswith("_") and not name.endswith("_") for name in functions),
        public_names=tuple(name for name in _top_level_names(tree) if not name.startswith("_")),
    )


def _docstring_lines(scope: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> range:
    if not scope.body or ast.get_docstring(scope, clean=False) is None:
        return range(0)
    return range(scope.body[0].lineno, (scope.body[0].end_lineno or 0) + 1)


def _top_level_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (
                name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def defined_twice(found: Iterable[Module]) -> dict[str, list[str]]:
    """List the public top-level names that several modules define; the sandbox shares with nobody."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in found:
        if module.package != "sandbox":
            for name in sorted(set(module.public_names)):
                homes[name].append(str(module.path))
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def named_twice(found: Iterable[Module]) -> dict[str, list[str]]:
    """List the file names that several packages have, but for `__init__.py` and the files of commands."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module in found:
        if module.path.name != "__init__.py" and module.path.parent.name != "commands":
            homes[module.path.name].append(str(module.path))
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def table(found: Iterable[Module], by: str) -> Iterator[str]:
    """Write the figures by `package` or by `path`, and their sum, a line each."""
    groups: dict[str, list[Module]] = defaultdict(list)
    for module in found:
        groups[str(getattr(module, by))].append(module)
    everything = [module for group in groups.values() for module in group]
    yield f"{by:<36}{'files':>7}{'lines':>8}{'code':>8}{'imports':>9}{'private':>9}{'code/private':>14}"
    for name, group in [*sorted(groups.items()), ("all", everything)]:
        code, private = (sum(getattr(m, n) for m in group) for n in ("code", "private_functions"))
        lines, imports = (sum(getattr(m, n) for m in group) for n in ("lines", "imports"))
        ratio = f"{code / private:.1f}" if private else ""
        yield f"{name:<36}{len(group):>7}{lines:>8,}{code:>8,}{imports:>9,}{private:>9,}{ratio:>14}"


def main(package: str | None = None) -> None:
    found = modules()
    if package is None:
        print("\n".join(table(found, "package")))
    else:
        print("\n".join(table([m for m in found if m.package == package], "path")))
    twice = {**defined_twice(found), **named_twice(found)}
    print("\n".join(f"twice: {name}: {', '.join(paths)}" for name, paths in sorted(twice.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
