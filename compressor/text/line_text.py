"""Texts that are read line by line: logs and tool results, diffs, stack traces."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What somebody who reads a log looks for.
_TROUBLE = re.compile(
    r"\b(?:error|errors|err|fatal|critical|crit|fail|failed|failure|failures|exception|panic|abort|aborted"
    r"|denied|refused|timeout|timed out|unreachable|corrupt|segfault|traceback|warn|warning|exit code [1-9]"
    r"|killed|oom)\b|\w(?:Error|Exception)\b|✗|✘|❌|FAIL",
    re.IGNORECASE,
)
_NO_TROUBLE = re.compile(
    r"\b(?:0|no|zero|without) (?:errors?|failures?|warnings?|failed)\b|errors?[:=] ?0\b", re.IGNORECASE
)
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|\d+")
_EDGE_LINES = 3  # of a log: how it starts, how it ended
_SAME_TROUBLE = 2  # the same error again and again says nothing new
_EDGE_FRAMES = 3
_CHANGED = re.compile(
    r"[+\-]|@@|diff |Index: |rename |new file|deleted file|similarity |Binary |old mode|new mode"
)
_FRAME = re.compile(
    r"\s+at |\s+File \"|\s*#\d+\s|\s+from |\t?\S+\.go:\d+|\s+in \S+ \(|\s*\.{3} \d+ more|\s+\^+|goroutine \d+"
    r"|\s*\d+: |\s{4,}\S"
)


def log_lines(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """Which lines stay (trouble, and both ends), and which only repeat an earlier one but for its numbers."""
    kept = {*range(min(_EDGE_LINES, len(lines))), *range(max(0, len(lines) - _EDGE_LINES), len(lines))}
    repeated: set[int] = set()
    seen: dict[str, int] = {}
    for index, line in enumerate(lines):
        form = _VARIABLE.sub("0", line)
        times = seen.get(form, 0)
        seen[form] = times + 1
        if times < _SAME_TROUBLE and _TROUBLE.search(line) and not _NO_TROUBLE.search(line):
            kept.add(index)
        elif times:
            repeated.add(index)
    return kept, repeated - kept


def changed_lines(lines: Sequence[str]) -> set[int]:
    """The lines of a diff that are not mere context: headers, hunks, and what was added or removed."""
    return {index for index, line in enumerate(lines) if _CHANGED.match(line)}


def check_diff(original: str, shortened: str) -> str:
    """Every changed line must still be there, in order."""
    before = [line for line in original.splitlines() if _CHANGED.match(line) and line.strip()]
    after = [line for line in shortened.splitlines() if _CHANGED.match(line) and line.strip()]
    same = [line.rstrip() for line in before] == [line.rstrip() for line in after]
    return "" if same else "changed lines of the diff would be lost"


def trace_lines(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """Which lines of a stack trace stay: messages, and the first and last frames of each run of frames."""
    kept: set[int] = set()
    repeated: set[int] = set()
    seen: set[str] = set()
    run: list[int] = []
    for index, line in enumerate([*lines, ""]):
        if index < len(lines) and _FRAME.match(line):
            run.append(index)
            if line in seen:
                repeated.add(index)
            seen.add(line)
            continue
        # A frame takes up to two lines, so twice as many stay at each end.
        kept.update(run[: 2 * _EDGE_FRAMES], run[-2 * _EDGE_FRAMES :])
        run = []
        if index < len(lines):
            kept.add(index)
    return kept, repeated - kept
