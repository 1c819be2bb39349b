"""Finds the codes of rejects in the program's own text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

STAGES = ("reader", "mapper", "snapshot", "encoder", "sender")
# What makes a reject or passes a code on to what does, and at which place it takes the code.
_TAKES_CODE_AT = {
    "Reject": 2,
    "ValueIssue": 0,
    "issues_of": 0,
    "_issue_at": 0,
    "_issues_at": 1,
    "_found": 3,
    "blank_bad": 2,
    "_load": 1,
    "_UnfitError": 0,
    "_reject": 1,
    "handed_back": 1,
}


def reject_codes(package: Path) -> set[str]:
    """Every code that a stage of the package gives to a reject."""
    return {
        code for stage in STAGES for file in sorted((package / stage).rglob("*.py")) for code in _codes(file)
    }


def _codes(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    if not any(f"{name}(" in text for name in (*_TAKES_CODE_AT, "rejects_of")):
        return
    tree = ast.parse(text)
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            for given in _given_codes(scope):
                yield from _words(given, scope, tree)


def _given_codes(scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = _TAKES_CODE_AT.get(name)
            if place is not None and place < len(node.args):
                yield node.args[place]
        match node:  # the codes and reasons that `rejects_of` takes
            case ast.Tuple(elts=[ast.Constant(value=str()) as code, ast.Name(id="reason")]):
                yield code


def _words(given: ast.expr, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    """The texts that an expression may stand for; none for a code that comes from somebody else."""
    match given:
        case ast.Constant(value=str(word)):
            yield word
        case ast.IfExp(body=one, orelse=other):
            yield from _words(one, scope, tree)
            yield from _words(other, scope, tree)
        case ast.Call(func=ast.Name(id=name)):
            for node in ast.walk(_function(tree, name)):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from _words(node.value, scope, tree)
        case ast.Name(id=name):
            yield from _assigned(name, scope, tree)
            yield from _first_of_rows(scope)


def _assigned(name: str, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    """The texts that a function assigns to a name of its own."""
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.IfExp() as value) if target == name:
                yield from _words(value, scope, tree)


def _function(tree: ast.Module, name: str) -> ast.AST:
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)


def _first_of_rows(scope: ast.AST) -> Iterator[str]:
    """The first texts of a table (a tuple of tuples) in a function that goes through its rows."""
    for node in ast.walk(scope):
        match node:
            case ast.Assign(value=ast.Tuple(elts=rows)):
                for row in rows:
                    match row:
                        case ast.Tuple(elts=[ast.Constant(value=str(word)), *_]):
                            yield word
