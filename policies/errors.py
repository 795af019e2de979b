"""The policies' errors.

PolicyError (ValueError)        one rule that cannot be used: file, line, key, what was expected
└── ConfigurationError          a whole file that is refused; `.problems` has every mistake
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]


class PolicyError(ValueError):
    """A mistake in the configuration; the message reads `file:line: key: what was expected`."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, key: str = "") -> None:
        where = ":".join(str(part) for part in (file, line) if part)
        super().__init__(": ".join(part for part in (where, key, message) if part))
        self.file, self.line, self.key = file, line, key


class ConfigurationError(PolicyError):
    """A configuration that is refused, with all its mistakes at once."""

    def __init__(self, problems: Sequence[PolicyError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in plain data: where it is (`("policies", "rag", "keep")`) and what was expected."""

    path: Path
    message: str

    @property
    def key(self) -> str:
        """The path as people write it: `policies.rag.ranges[1].keep`."""
        return written(self.path)


def written(path: Path) -> str:
    """`("routes", 0, "match")` as `routes[0].match`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
