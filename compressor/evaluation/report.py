"""The Markdown report of an evaluation: tables a data set, what survived, times, paired differences."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from compressor.evaluation.metrics.intervals import Interval
from compressor.evaluation.metrics.survival import PATTERNS
from compressor.evaluation.summary import ONCE, Cell, CellKey, Difference

PACKAGES = ("terse-gateway", "torch", "transformers", "tokenizers", "onnxruntime", "numpy")
BUDGET = """the same number of tokens of `{tokenizer}` for every method, and no token more; a method
  that cannot hit it exactly stays below"""
SCORES = """EM: the normalised gold answer is contained in the answer's first line. Kept: it is contained in
  the shortened text, over the items whose original contains it. ±: half of the 95 % bootstrap interval over
  items; items over the same document are not independent, so it is a little too narrow"""
SURVIVAL = """Share of occurrences still in the shortened text, %; nothing was protected unless the method
says so."""
COSTS = """Means a context. Methods and the reader work in batches and a batch's time is shared equally, so
these are throughput figures, not one caller's latency. Notes: contexts where a method could not do as
asked."""
DIFFERENCES = """Points, with the 95 % interval of the paired bootstrap; bold where it leaves out zero."""
SCORE_NAMES = {
    "em": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "bleu": "BLEU",
    "similarity": "similarity",
    "kept": "kept",
    "fact_recall": "facts",
}


@dataclass(frozen=True, slots=True)
class ReportHead:
    """What the reader of a report must know before its figures."""

    title: str
    reader: str  # empty: no reader
    tokenizer: str  # of the budget
    device: str
    command: str
    remarks: tuple[str, ...] = ()
    measured_on: str = ""  # machine and versions, where they are not this process's


def percent(value: float | None) -> str:
    """`64.0`, or a dash where there is nothing."""
    return "–" if value is None else f"{100 * value:.1f}"


def with_margin(interval: Interval | None) -> str:
    """`64.0 ±7.8`: the mean and half the width of its interval, in points."""
    if interval is None:
        return "–"
    return f"{100 * interval.mean:.1f} ±{50 * (interval.high - interval.low):.1f}"


def render(
    head: ReportHead,
    cells: Mapping[CellKey, Cell],
    totals: Mapping[CellKey, Cell],
    differences: Sequence[Difference],
    plots: Sequence[Path] = (),
) -> str:
    """The whole report. `totals` are cells over all data sets together."""
    parts = [f"# {head.title}", render_head(head)]
    for dataset in dict.fromkeys(key[0] for key in cells):
        parts.append(render_dataset(dataset, {k: c for k, c in cells.items() if k[0] == dataset}))
    parts.extend(f"![{path.stem}]({path.name})" for path in plots)
    parts += [render_survival(totals), render_costs(totals)]
    if differences:
        parts.append(render_differences(differences))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_head(head: ReportHead) -> str:
    """How it was measured: reader, budget, machine, versions, command."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    here = f"{head.device}, {platform.machine()}, Python {platform.python_version()}; {', '.join(versions)}"
    lines = [
        f"- reader: {head.reader or 'none'}",
        f"- budget: {BUDGET.format(tokenizer=head.tokenizer)}",
        f"- scores: {SCORES}",
        f"- machine: {head.measured_on or here}",
        f"- command: `{head.command}`",
        *(f"- {remark}" for remark in head.remarks),
    ]
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Pipes in cells are escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def render_dataset(dataset: str, cells: Mapping[CellKey, Cell]) -> str:
    """One data set: a table of the main score with "kept", and one for each further score."""
    keeps = sorted({key[2] for key in cells if key[1] not in ONCE}, reverse=True)
    methods = list(dict.fromkeys(key[1] for key in cells))
    most = max(cell.items for cell in cells.values())
    names = list(dict.fromkeys(name for cell in cells.values() for name in cell.scores))
    header = ["method", "items", *(f"{keep:g}" for keep in keeps)]

    def rows(show: Callable[[Cell], str]) -> list[list[str]]:
        return [[m, str(items_of(cells, m)), *cells_of(cells, dataset, m, keeps, show)] for m in methods]

    parts = [f"## {dataset}", f"Up to {most} items; columns are the share of tokens kept."]
    if names:
        main = names[0]
        parts.append(f"**{SCORE_NAMES.get(main, main)} (answer kept), %**")
        parts.append(table(header, rows(lambda cell: score_and_kept(cell, main))))
        for name in names[1:]:
            parts.append(f"**{SCORE_NAMES.get(name, name)}, %**")
            parts.append(table(header, rows(lambda cell, name=name: with_margin(cell.scores.get(name)))))  # type: ignore[misc]
    else:
        parts.append("**Answer kept, %**")
        parts.append(table(header, rows(lambda cell: with_margin(cell.kept))))
    restored = list(dict.fromkeys(name for cell in cells.values() for name in cell.restored))
    for name in restored:
        parts.append(f"**Restored by the reader: {SCORE_NAMES.get(name, name)}, %**")
        parts.append(table(header, rows(lambda cell, name=name: with_margin(cell.restored.get(name)))))  # type: ignore[misc]
    return "\n\n".join(parts)


def score_and_kept(cell: Cell, name: str) -> str:
    """A score with its margin, and in brackets the share of answers that are still in the text."""
    kept = "" if cell.kept is None else f" ({100 * cell.kept.mean:.0f})"
    return with_margin(cell.scores.get(name)) + kept


def items_of(cells: Mapping[CellKey, Cell], method: str) -> int:
    """The most items that any cell of the method has."""
    return max(cell.items for key, cell in cells.items() if key[1] == method)


def cells_of(
    cells: Mapping[CellKey, Cell],
    dataset: str,
    method: str,
    keeps: Sequence[float],
    show: Callable[[Cell], str],
) -> list[str]:
    """One row of a table: the cells of a method on a data set, one a rate."""
    if method in ONCE:
        only = next(cell for key, cell in cells.items() if key[1] == method)
        return [show(only), *("" for _ in keeps[1:])]
    return [show(cells[dataset, method, k]) if (dataset, method, k) in cells else "" for k in keeps]


def render_survival(totals: Mapping[CellKey, Cell]) -> str:
    """What of the hard facts is left, over all data sets, weighted by how often they occur."""
    rows = []
    for (_, method, keep), cell in totals.items():
        if method not in ONCE:
            kinds = [percent(cell.survival[kind]) for kind in PATTERNS]
            rows.append([method, f"{keep:g}", *kinds, percent(cell.json_valid)])
    header = ["method", "keep", *PATTERNS, "JSON valid"]
    return "\n\n".join(["## Facts that survive", SURVIVAL, table(header, rows)]) if rows else ""


def render_costs(totals: Mapping[CellKey, Cell]) -> str:
    """Tokens, time and memory, over all data sets."""
    rows = []
    for (_, method, keep), cell in totals.items():
        read = cell.read_seconds
        rows.append([
            method, f"{keep:g}", str(cell.items), f"{cell.tokens:.0f}", percent(cell.keep),
            f"{1000 * cell.seconds:.1f}",
            "–" if read is None else f"{1000 * read:.1f}",
            "–" if read is None else f"{1000 * (cell.seconds + read):.1f}",
            f"{cell.peak_mb:.0f}", str(cell.notes) if cell.notes else "",
        ])  # fmt: skip
    times = ["shorten ms", "read ms", "end to end ms"]
    header = ["method", "keep", "contexts", "tokens", "kept %", *times, "peak MB", "notes"]
    return "\n\n".join(["## Tokens, time, memory", COSTS, table(header, rows)])


def render_differences(differences: Sequence[Difference]) -> str:
    """Paired differences, a row for each data set and pair; bold where the interval leaves out zero."""
    keeps = sorted({found.keep for found in differences}, reverse=True)
    shown: dict[tuple[str, str, str], dict[float, str]] = {}
    for found in differences:
        text = f"{100 * found.by.mean:+.1f} [{100 * found.by.low:+.1f}, {100 * found.by.high:+.1f}]"
        text = f"**{text}**" if found.by.excludes_zero else text
        key = (found.dataset, found.methods, SCORE_NAMES.get(found.score, found.score))
        shown.setdefault(key, {})[found.keep] = text
    rows = [[*key, *(cells.get(keep, "") for keep in keeps)] for key, cells in shown.items()]
    header = ["data", "methods", "score", *(f"{keep:g}" for keep in keeps)]
    return "\n\n".join(["## Paired differences", DIFFERENCES, table(header, rows)])
