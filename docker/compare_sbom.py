"""Holds an SBOM against what is installed: python docker/compare_sbom.py SBOM PYTHON.

Exit code 0: it lists just what that interpreter's environment has, each with its version; 1: it does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def listed(sbom: Path) -> set[tuple[str, str]]:
    """Names and versions in the document, the application itself included."""
    told = json.loads(sbom.read_text(encoding="utf-8"))
    parts = [*told["components"], told["metadata"]["component"]]
    return {(part["name"].lower().replace("_", "-"), part["version"]) for part in parts}


def installed(python: str) -> set[tuple[str, str]]:
    """What pip finds there."""
    command = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {(part["name"].lower().replace("_", "-"), part["version"]) for part in told}


def main() -> None:
    """Says what is in one and not in the other."""
    sbom, there = listed(Path(sys.argv[1])), installed(sys.argv[2])
    for name, version in sorted(there - sbom):
        print(f"installed, not listed: {name} {version}")
    for name, version in sorted(sbom - there):
        print(f"listed, not installed: {name} {version}")
    print(f"{len(there & sbom)} packages listed as they are installed")
    sys.exit(0 if there == sbom else 1)


if __name__ == "__main__":
    main()
