"""Which records may train weights that are given away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from compressor.training.records import Labelled

ALLOWED = re.compile(
    r"^(MIT|Apache-2\.0|BSD|CC-BY-\d|CC-BY-SA-\d|CC0|PublicDomain|Gutenberg\+CC-BY-\d)", re.IGNORECASE
)
# Any of these words refuses a licence that ALLOWED would let through ("MIT (research only)").
REFUSED = re.compile(r"\bN[CD]\b|research|academic|unstated|none|unknown|GPL|per-task", re.IGNORECASE)


def may_ship(licence: str) -> bool:
    """Whether weights trained on text under this licence may be given away; no licence means no."""
    return bool(ALLOWED.match(licence)) and not REFUSED.search(licence)


def shippable(records: Iterable[Labelled], refused: Counter[str]) -> Iterator[Labelled]:
    """The records that may train shipped weights; the others are counted by licence in `refused`."""
    for record in records:
        if may_ship(record.origin.lic):
            yield record
        else:
            refused[record.origin.lic or "none"] += 1
