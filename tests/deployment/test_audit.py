"""`make audit` reads what pip-audit says: advisories fail, a service that knows nothing is no all-clear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.dockerfiles import FOLDER

GOOD = {"name": "one", "version": "1", "vulns": []}
BAD = {"name": "two", "version": "2", "vulns": [{"id": "GHSA-x"}]}
UNKNOWN = {"name": "three", "version": "3", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("told", "strict", "code", "said"),
    [
        ([GOOD, UNKNOWN], False, 0, "1 packages asked about, 0 open"),
        ([GOOD, BAD], False, 1, "two 2: GHSA-x"),
        ([UNKNOWN], False, 0, "NOT AUDITED"),
        ([UNKNOWN], True, 2, "NOT AUDITED"),
        (None, False, 0, "NOT AUDITED"),
    ],
)
def test_what_it_says(tmp_path: Path, told: Any, strict: bool, code: int, said: str) -> None:
    program = tmp_path / "pip-audit"
    answer = "no network" if told is None else json.dumps({"dependencies": told})
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    command = [sys.executable, str(FOLDER / "audit.py"), "constraints.txt", "--program", str(program)]
    ended = subprocess.run(
        [*command, "--strict"] if strict else command, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr


def test_an_sbom_that_misses_something(tmp_path: Path) -> None:
    sbom = tmp_path / "sbom.json"
    sbom.write_text(json.dumps({"components": [], "metadata": {"component": {"name": "x", "version": "1"}}}))
    command = [sys.executable, str(FOLDER / "compare_sbom.py"), str(sbom), sys.executable]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "installed, not listed: httpx" in ended.stdout
    assert "listed, not installed: x 1" in ended.stdout
