"""Who may import whom, and what must stay out of a process that does not need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("compressor", ["torch", "transformers", "litellm", "starlette", "redis"]),
        ("gateway.app", ["torch", "transformers", "litellm", "onnxruntime"]),
        ("gateway.cli", ["torch", "transformers", "litellm", "onnxruntime"]),
        ("policies", ["torch", "numpy", "httpx", "aiohttp", "redis", "starlette"]),
    ],
)
def test_import_stays_light(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {absent!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]", f"import {module} also imports {result.stdout.strip()}"
