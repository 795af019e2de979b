"""What the dashboard shows, computed from rows of the books and the latest receipts. Pure arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, str | int | float]
Sums = dict[str, str | float]

SUMMED = ("requests", "tokens_before", "tokens_after", "cost_usd", "counterfactual_usd", "saved_usd")
UNTOUCHED = ("skipped", "off", "failed-open", "audit")


@dataclass(frozen=True, slots=True)
class Filters:
    """What is shown; an empty string lets everything through."""

    team: str = ""
    model: str = ""
    route: str = ""

    def matches(self, row: Row) -> bool:
        """Whether a row, or a receipt, belongs to what is shown."""
        wanted = (("team", self.team), ("model", self.model), ("route", self.route))
        return all(not value or row.get(name) == value for name, value in wanted)


def add_up(rows: Iterable[Row], by: Sequence[str]) -> list[Sums]:
    """One row per value of `by`, in the order of those values, with SUMMED added up."""
    groups: dict[tuple[str, ...], Sums] = {}
    for row in rows:
        key = tuple(str(row.get(name, "")) for name in by)
        group = groups.setdefault(key, {**dict(zip(by, key, strict=True)), **dict.fromkeys(SUMMED, 0.0)})
        for name in SUMMED:
            group[name] = float(group[name]) + float(row.get(name, 0))
    return [groups[key] for key in sorted(groups)]


def summarise(rows: Sequence[Row], receipts: Sequence[Row], filters: Filters) -> dict[str, object]:
    """Everything of the overview that comes from the books: `rows` per day, team, model and route."""
    shown = [row for row in rows if filters.matches(row)]
    latest = [receipt for receipt in receipts if filters.matches(receipt)]
    total = add_up(shown, ()) or [dict.fromkeys(SUMMED, 0.0)]
    skips = Counter(
        str(receipt.get("skip_reason") or receipt["compression"])
        for receipt in latest
        if receipt.get("compression") in UNTOUCHED
    )
    caches = Counter(str(receipt.get("cache", "none")) for receipt in latest)
    caches.pop("none", None)
    return {
        "total": total[0],
        "days": add_up(shown, ("day",)),
        "groups": add_up(shown, ("team", "route", "model")),
        "teams": sorted({str(row["team"]) for row in rows}),
        "models": sorted({str(row["model"]) for row in rows}),
        "routes": sorted({str(row.get("route", "")) for row in rows} - {""}),
        # The books are newest first; a chart reads from left to right.
        "latency": [
            {"overhead_ms": receipt.get("overhead_ms", 0), "upstream_ms": receipt.get("upstream_ms", 0)}
            for receipt in reversed(latest)
        ],
        "latency_split": latency_split(latest),
        "cache": dict(caches),
        "skips": dict(skips),
    }


def latency_split(receipts: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of our share and of the upstream's; nothing without receipts."""
    split = {}
    for name, field in (("ours", "overhead_ms"), ("upstream", "upstream_ms")):
        values = sorted(float(receipt.get(field, 0)) for receipt in receipts)
        if values:
            split[name] = {"p50": values[len(values) // 2], "p95": values[int(0.95 * len(values))]}
    return split


def answer_lengths(rows: Iterable[Row], filters: Filters) -> list[Row]:
    """Of `rows` per team, route and model those whose holdout says by how much answers became longer."""
    return [row for row in rows if row.get("compared_requests") and filters.matches(row)]
