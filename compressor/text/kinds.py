"""What kind of text a string is, by its own looks."""

from __future__ import annotations

KINDS = (
    "prose",
    "code",
    "json",
    "log",
    "diff",
    "table",
    "html",
    "markdown",
    "base64",
    "stack-trace",
)


def detect_kind(text: str) -> str:
    """One of KINDS."""
    return "prose"
