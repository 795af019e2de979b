"""The rows that an evaluation leaves behind, one JSON object a line, appended as they come so that a run that
stopped goes on where it was. They hold the shortened texts: treat the folder like the data itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from compressor.training.records import InvalidRecord, read_objects

Row = TypeVar("Row", bound="ShortRow | AnswerRow")


@dataclass(frozen=True, slots=True)
class Key:
    """What a row is about."""

    dataset: str
    item: str
    method: str
    keep: float


@dataclass(frozen=True, slots=True)
class ShortRow:
    """One shortened context, measured without a reader."""

    key: Key
    tokens_before: int
    tokens: int
    target: int
    seconds: float  # of the batch, shared equally
    text: str
    note: str = ""
    kept: bool | None = None  # whether a gold answer still stands in the text; None: it never did
    survival: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    json_valid: bool | None = None  # None: the original is no JSON
    peak_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What a reader made of one shortened context."""

    key: Key
    reader: str
    task: str
    answer: str
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def append_rows(path: Path, rows: Iterable[ShortRow | AnswerRow]) -> None:
    """Adds rows to the file and makes sure that they are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        out.write(b"".join(orjson.dumps(asdict(row)) + b"\n" for row in rows))


def read_short_rows(path: Path) -> list[ShortRow]:
    """Every shortened context of an earlier run; none when there was none. Raises InvalidRecord."""
    rows = []
    for where, fields in row_objects(path):
        try:
            found = {kind: (int(a), int(b)) for kind, (a, b) in fields.pop("survival").items()}
            rows.append(ShortRow(key=Key(**fields.pop("key")), survival=found, **fields))
        except (TypeError, KeyError, ValueError) as error:
            raise InvalidRecord(f"{where}: not a row of an evaluation: {error}") from error
    return rows


def read_answer_rows(path: Path) -> list[AnswerRow]:
    """Every answer of an earlier run; none when there was none. Raises InvalidRecord."""
    rows = []
    for where, fields in row_objects(path):
        try:
            rows.append(AnswerRow(key=Key(**fields.pop("key")), **fields))
        except (TypeError, KeyError) as error:
            raise InvalidRecord(f"{where}: not a row of an evaluation: {error}") from error
    return rows


def row_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a row file. A last line that a killed run left half written is dropped from the file."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])
    for number, row in read_objects(path):
        yield f"{path}:{number}", row
