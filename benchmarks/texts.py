"""Texts that benchmarks read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path


def read_text(file: Path) -> str:
    """A UTF-8 text, or the `text` of all JSON lines of a `.jsonl` file; either may be gzipped."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        if ".jsonl" not in file.name:
            return str(lines.read())
        return "\n\n".join(str(json.loads(line)["text"]) for line in lines)
