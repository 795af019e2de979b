"""Rows gathered into the cells of a report: one for each data set, method and rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compressor.evaluation.metrics.intervals import Interval, mean_interval, paired_interval
from compressor.evaluation.metrics.survival import PATTERNS
from compressor.evaluation.rows import AnswerRow, Key, ShortRow
from compressor.evaluation.run import RESTORE

CellKey = tuple[str, str, float]  # data set, method, keep
ONCE = ("full", "empty")  # methods without a rate of their own


@dataclass(frozen=True, slots=True)
class Cell:
    """What one method did to one data set at one rate."""

    items: int
    keep: float  # share of tokens really kept, over all items
    tokens: float  # mean a context
    kept: Interval | None  # gold answer still in the text, where it was in the original
    seconds: float  # mean a context, shortening
    read_seconds: float | None  # mean a context, reading
    peak_mb: float
    scores: Mapping[str, Interval]  # of the answers
    restored: Mapping[str, Interval]
    survival: Mapping[str, float | None]  # share of occurrences, by kind
    json_valid: float | None
    notes: int  # contexts with a note


@dataclass(frozen=True, slots=True)
class Difference:
    """The baseline's score minus another method's, on the same items at the same rate."""

    dataset: str
    methods: str  # "ours − theirs"
    keep: float
    score: str
    by: Interval


def summarise(
    short: Sequence[ShortRow], answers: Sequence[AnswerRow], *, together: bool = False
) -> dict[CellKey, Cell]:
    """One cell for each data set, method and rate that has rows; `together` takes all data sets as one."""

    def cell_key(key: Key) -> CellKey:
        return ("" if together else key.dataset), key.method, key.keep

    groups: dict[CellKey, list[ShortRow]] = defaultdict(list)
    for row in short:
        groups[cell_key(row.key)].append(row)
    said: dict[CellKey, list[AnswerRow]] = defaultdict(list)
    restored: dict[CellKey, list[AnswerRow]] = defaultdict(list)
    for answer in answers:
        if not answer.error:
            (restored if answer.task == RESTORE else said)[cell_key(answer.key)].append(answer)
    return {key: make_cell(rows, said[key], restored[key]) for key, rows in groups.items()}


def make_cell(rows: Sequence[ShortRow], said: Sequence[AnswerRow], restored: Sequence[AnswerRow]) -> Cell:
    """One cell of the report from its rows and answers."""
    kept = [float(row.kept) for row in rows if row.kept is not None]
    valid = [row.json_valid for row in rows if row.json_valid is not None]
    before = sum(row.tokens_before for row in rows)
    return Cell(
        items=len(rows),
        keep=sum(row.tokens for row in rows) / before if before else 0.0,
        tokens=mean(rows, lambda row: row.tokens),
        kept=mean_interval(kept) if kept else None,
        seconds=mean(rows, lambda row: row.seconds),
        read_seconds=sum(a.seconds for a in said) / len(said) if said else None,
        peak_mb=max(row.peak_mb for row in rows),
        scores=score_intervals(said),
        restored=score_intervals(restored),
        survival={kind: survived(rows, kind) for kind in PATTERNS},
        json_valid=sum(valid) / len(valid) if valid else None,
        notes=sum(bool(row.note) for row in rows),
    )


def mean(rows: Sequence[ShortRow], value: Callable[[ShortRow], float]) -> float:
    """The mean of a value over rows; there is at least one."""
    return sum(map(value, rows)) / len(rows)


def survived(rows: Sequence[ShortRow], kind: str) -> float | None:
    """The share of spans of a kind that are still there; None where there were none."""
    pairs = [row.survival[kind] for row in rows if kind in row.survival]
    total = sum(before for _, before in pairs)
    return sum(after for after, _ in pairs) / total if total else None


def score_intervals(answers: Sequence[AnswerRow]) -> dict[str, Interval]:
    """Mean and interval of each score over the answers that have it."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.scores))
    return {
        name: mean_interval([answer.scores[name] for answer in answers if name in answer.scores])
        for name in names
    }


def differences(
    short: Sequence[ShortRow], answers: Sequence[AnswerRow], baseline: Sequence[str]
) -> list[Difference]:
    """Paired differences of each baseline method to every other: main score, same rate, shared items.

    Without answers the score is "kept".
    """
    values: dict[CellKey, dict[str, float]] = defaultdict(dict)
    names: dict[CellKey, str] = {}
    scored = [
        (a.key, next(iter(a.scores.items())))
        for a in answers
        if a.task != RESTORE and a.scores and not a.error
    ]
    if not scored:
        scored = [(row.key, ("kept", float(row.kept))) for row in short if row.kept is not None]
    for key, (name, value) in scored:
        cell = (key.dataset, key.method, key.keep)
        values[cell][key.item] = value
        names[cell] = name
    found = []
    for (dataset, method, keep), theirs in values.items():
        for ours in baseline:
            mine = values.get((dataset, ours, keep), {})
            shared = sorted(set(mine) & set(theirs))
            if method in (*baseline, *ONCE) or not shared:
                continue
            by = paired_interval([mine[i] for i in shared], [theirs[i] for i in shared])
            found.append(Difference(dataset, f"{ours} − {method}", keep, names[dataset, method, keep], by))
    return found
