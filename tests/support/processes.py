"""What the system knows of processes."""

from __future__ import annotations

import subprocess


def children_of(pid: int) -> list[int]:
    """Processes that this one started and that are still there."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]
