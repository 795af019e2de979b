"""Which benchmarks there are: each prints its own `--help`, writes its report under benchmarks/results/."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> None:
    """Prints one line a benchmark, from the first line of its docstring."""
    for path in sorted([*FOLDER.glob("*.py"), *FOLDER.glob("*/__main__.py")], key=name_of):
        text = path.read_text(encoding="utf-8")
        if path == Path(__file__) or "__name__ ==" not in text:
            continue
        told = ast.get_docstring(ast.parse(text)) or "(no docstring)"
        print(f"python -m benchmarks.{name_of(path)} --help\n    {told.splitlines()[0]}")


def name_of(path: Path) -> str:
    """Of a module, or of the folder that is one benchmark."""
    return path.parent.name if path.stem == "__main__" else path.stem


if __name__ == "__main__":
    main()
