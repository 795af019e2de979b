"""Which benchmarks there are: each prints its own `--help`, writes its report under benchmarks/results/."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Prints one line a benchmark, from the first line of its docstring."""
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "(no docstring)"
        print(f"python -m benchmarks.{path.stem} --help\n    {told.splitlines()[0]}")


if __name__ == "__main__":
    main()
