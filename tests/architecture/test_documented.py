"""Documentation is part of a change: every name that a user meets is in README.md or docs/."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
GATEWAY = sorted((ROOT / "gateway").rglob("*.py"))


def strings_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def names_matching(pattern: str) -> set[str]:
    found = {value for path in GATEWAY for value in strings_of(path) if re.fullmatch(pattern, value)}
    assert found, f"nothing matches {pattern}: the test looks in the wrong place"
    return found


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_setting(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_headers() -> None:
    missing = {name for name in names_matching(r"x-terse-[a-z-]*[a-z]") if name not in TEXT}
    assert not missing


def test_metrics() -> None:
    missing = {name for name in names_matching(r"terse_[a-z_]+") if f"`{name}`" not in TEXT}
    assert not missing


def test_error_codes() -> None:
    tree = ast.parse((ROOT / "gateway" / "errors.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    codes = {
        constant.value
        for cls in classes
        for statement in cls.body
        if isinstance(statement, ast.Assign)
        for constant in ast.walk(statement)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    assert len(codes) > 10
    missing = {code for code in codes if f"`{code}`" not in TEXT}
    assert not missing


def help_of(*command: str) -> str:
    program = [sys.executable, "-m", "gateway", *command, "--help"]
    result = subprocess.run(
        program, capture_output=True, text=True, check=True, env={"COLUMNS": "200", "NO_COLOR": "1"}
    )
    return result.stdout


def test_commands() -> None:
    listed = re.findall(r"^[│|]?\s*([a-z]+)\s{2,}\S", help_of().split("Commands", 1)[1], re.MULTILINE)
    assert len(listed) > 5
    missing = [name for name in listed if f"terse {name}" not in TEXT]
    assert not missing
    without_example = [name for name in listed if f"terse {name}" not in help_of(name)]
    assert not without_example, f"--help without an example: {without_example}"


def test_policy_keys() -> None:
    tree = ast.parse((ROOT / "policies" / "shapes.py").read_text(encoding="utf-8"))
    (policy,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Policy"]
    keys = [
        item.target.id
        for item in policy.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    missing = [key for key in keys if key not in {"name", "fingerprint"} and f"`{key}`" not in TEXT]
    assert not missing
