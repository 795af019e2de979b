"""What is summed of a receipt: the figures of one row of the books, and how rows are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Final

from gateway.accounting.output_length import output_change, output_figures
from gateway.shapes import Receipt, Usage

Entry = Mapping[str, str | int | float]
Row = dict[str, str | int | float]
_Stratum = tuple[str, str]  # model and route

DIMENSIONS: Final = ("day", "team", "key_id", "model", "route")
DEFAULT_GROUP: Final = ("day", "team", "model")
COUNTED: Final = (
    "tokens_before",
    "tokens_after",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "broken_prefix_tokens",
)
# Summed in micro-USD, so that the books add up to the cent whatever the order; shown in USD.
MONEY: Final = ("cost_usd", "counterfactual_usd", "saved_usd")
_RECEIPT_FIELDS: Final = tuple(field.name for field in fields(Receipt) if field.name != "usage")
_USAGE_FIELDS: Final = tuple(field.name for field in fields(Usage))
_ENTRY_FIELDS: Final = (*_RECEIPT_FIELDS, *_USAGE_FIELDS)
_of_receipt: Final = attrgetter(*_RECEIPT_FIELDS)
_of_usage: Final = attrgetter(*_USAGE_FIELDS)
KEPT_DAYS: Final = 400  # a year and a month to compare it with
KEPT_RECEIPTS: Final = 10_000  # a store; about 10 MB


def entry_of(receipt: Receipt) -> Row:
    """A receipt as the flat entry that `Ledger.book` takes; the usage's fields stand beside the others."""
    values = (*_of_receipt(receipt), *_of_usage(receipt.usage))
    return dict(zip(_ENTRY_FIELDS, values, strict=True))


def row_key(entry: Entry) -> tuple[str, str, str, str, str]:
    """The row of the books that an entry belongs to: day (UTC), team, key, model and route."""
    day = str(entry.get("at", ""))[:10]
    return (
        day,
        str(entry.get("team", "")),
        str(entry.get("key_id", "")),
        str(entry.get("model", "")),
        str(entry.get("route", "")),
    )


def figures(entry: Entry) -> dict[str, int]:
    """What an entry adds to its row. Zeros are left out."""
    sums = {"requests": 1}
    if str(entry.get("outcome", "ok")) != "ok":
        sums["failed"] = 1
    if entry.get("compression") == "applied":
        sums["compressed"] = 1
    for name in COUNTED:
        sums[name] = int(entry.get(name, 0))
    for name in MONEY:
        sums[name] = micro_usd(float(entry.get(name, 0.0)))
    sums |= output_figures(entry)
    return {name: amount for name, amount in sums.items() if amount}


def micro_usd(usd: float) -> int:
    """USD in whole micro-USD, to the nearest."""
    return round(usd * 1_000_000)


def rows_of(sums: Iterable[tuple[tuple[str, ...], str, int]], group: tuple[str, ...]) -> list[Row]:
    """Rows from (values of DIMENSIONS, figure, amount), added up over everything that `group` leaves out."""
    rows: dict[tuple[str, ...], dict[_Stratum, dict[str, int]]] = {}
    for values, figure, amount in sums:
        by_name = dict(zip(DIMENSIONS, values, strict=True))
        strata = rows.setdefault(tuple(by_name[name] for name in group), {})
        # Lengths of answers are compared within one model and one route, which is one policy.
        stratum = strata.setdefault((by_name["model"], by_name["route"]), {})
        stratum[figure] = stratum.get(figure, 0) + amount
    return [_shown(group, key, rows[key]) for key in sorted(rows)]


def _shown(group: tuple[str, ...], key: tuple[str, ...], strata: Mapping[_Stratum, Mapping[str, int]]) -> Row:
    row: Row = dict(zip(group, key, strict=True))
    sums: Counter[str] = Counter()
    for stratum in strata.values():
        sums.update(stratum)
    for name in ("requests", "failed", "compressed", *COUNTED):
        row[name] = sums.get(name, 0)
    for name in MONEY:
        row[name] = sums.get(name, 0) / 1_000_000
    row["tokens_saved"] = sums.get("tokens_before", 0) - sums.get("tokens_after", 0)
    change = output_change(strata.values())
    row |= change.shown()
    row["net_saved_usd"] = round(float(row["saved_usd"]) - change.usd, 6)
    return row


def check_group(group: tuple[str, ...]) -> tuple[str, ...]:
    """The group itself. Raises ValueError when it names something that the books do not have."""
    unknown = [name for name in group if name not in DIMENSIONS]
    if unknown or not group:
        raise ValueError(
            f"group by some of {', '.join(DIMENSIONS)}, not by {', '.join(unknown) or 'nothing'}"
        )
    return group
