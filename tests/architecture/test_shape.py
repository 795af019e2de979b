"""Files stay small enough to read, and say by their name what they hold."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("gateway", "compressor", "policies") for path in (ROOT / package).rglob("*.py")
)
BESIDE = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
FORBIDDEN_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "types",
    "queue",
    "select",
    "tokenize",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_sources_were_found() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", [*SOURCES, *BESIDE], ids=name_of)
def test_module_is_short_and_well_named(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_MODULE, f"{name_of(path)} has {lines} lines, {LONGEST_MODULE} is the limit"
    assert path.stem not in FORBIDDEN_NAMES, f"{name_of(path)}: the name says nothing of the domain"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = {
        node.name: length
        for node in functions
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not too_long, f"{name_of(path)}: {too_long} lines, {LONGEST_FUNCTION} is the limit"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_classes_and_functions_say_what_the_caller_gets(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert not silent, f"{name_of(path)}: no docstring on {silent}"
