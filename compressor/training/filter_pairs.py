"""Drop the pairs that a teacher spoilt: those that say what the original does not, and those that cannot
be aligned.

The paper's two filters: first the highest variation rates go, then, of the rest, the largest alignment gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressor.errors import InvalidOption
from compressor.training.records import InvalidRecord, Labelled

DROP_VARIATION = 0.05  # the paper's share; its code drops 0.10
DROP_GAP = 0.10
NAMES = {
    "variation": "variation rate (VR)",
    "hitting": "hitting rate (HR)",
    "matching": "matching rate (MR)",
    "gap": "alignment gap (AG)",
}


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What was dropped and where the lines were drawn; `means` before and after, by measure."""

    pairs: int
    dropped_variation: int
    dropped_gap: int
    variation_limit: float
    gap_limit: float
    means: dict[str, tuple[float, float]]

    @property
    def kept(self) -> int:
        """Pairs that are left."""
        return self.pairs - self.dropped_variation - self.dropped_gap


def filter_pairs(
    records: Sequence[Labelled], drop_variation: float = DROP_VARIATION, drop_gap: float = DROP_GAP
) -> tuple[list[Labelled], FilterReport]:
    """The records that stay, in order, and what happened.

    Shares are of the number of pairs, rounded up; equal values at the line go by their order in the file,
    so that
    the share is met exactly. Raises InvalidOption for a share outside 0..1, InvalidRecord for a record
    without the
    measures of annotation.
    """
    for name, share in (("drop_variation", drop_variation), ("drop_gap", drop_gap)):
        if not 0 <= share < 1:
            raise InvalidOption(f"{name}: expected a share from 0 to below 1, got {share}")
    for record in records:
        if not {"variation", "gap"} <= record.metrics.keys():
            raise InvalidRecord(f"{record.id}: no measures; annotate deletion pairs first")
    first, variation_limit = _without_highest(records, "variation", drop_variation)
    second, gap_limit = _without_highest(first, "gap", drop_gap)
    means = {name: (_mean(records, name), _mean(second, name)) for name in NAMES}
    dropped = len(records) - len(first), len(first) - len(second)
    return second, FilterReport(len(records), *dropped, variation_limit, gap_limit, means)


def _without_highest(records: Sequence[Labelled], name: str, share: float) -> tuple[list[Labelled], float]:
    """Without the highest share; a perfect pair (0) is never dropped. Also the highest value that stays."""
    count = math.ceil(share * len(records))
    order = sorted(range(len(records)), key=lambda at: -records[at].metrics[name])
    dropped = {at for at in order[:count] if records[at].metrics[name] > 0}
    kept = [record for at, record in enumerate(records) if at not in dropped]
    return kept, max((record.metrics[name] for record in kept), default=0.0)


def _mean(records: Sequence[Labelled], name: str) -> float:
    values = [record.metrics[name] for record in records if name in record.metrics]
    return float(np.mean(values)) if values else 0.0


def write_report(records: Sequence[Labelled], report: FilterReport, path: Path) -> None:
    """A Markdown report at `path` and one histogram a measure beside it (SVG)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = (
        f"{report.pairs} pairs, {report.kept} kept. Dropped: {report.dropped_variation} for their variation "
        f"rate (above {report.variation_limit:.3f}), then {report.dropped_gap} for their alignment gap "
        f"(above {report.gap_limit:.3f}).\n"
    )
    lines = ["# Filtered pairs\n", summary, "| measure | mean before | mean after |", "|---|---|---|"]
    lines += [f"| {NAMES[name]} | {old:.4f} | {new:.4f} |" for name, (old, new) in report.means.items()]
    limits = {"variation": report.variation_limit, "gap": report.gap_limit}
    for name in NAMES:
        picture = path.with_name(f"{path.stem}-{name}.svg")
        _draw([record.metrics.get(name, 0.0) for record in records], name, limits.get(name), picture)
        lines.append(f"\n![{NAMES[name]}]({picture.name})")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _draw(values: Sequence[float], name: str, limit: float | None, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, bins=40, color="#4477aa")
    if limit is not None:
        axes.axvline(limit, color="#cc3311", label="kept up to here")
        axes.legend()
    axes.set_xlabel(NAMES[name])
    axes.set_ylabel("pairs")
    figure.savefig(path, format="svg")
