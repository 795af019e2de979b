from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from compressor.training.records import (
    InvalidRecord,
    Labelled,
    LabelSpan,
    Origin,
    is_held_back,
    labelled_line,
    read_answerable,
    read_chunks,
    read_labelled,
    write_lines,
)


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n\n{"id": "b", "text": \n', encoding="utf-8")
    with pytest.raises(InvalidRecord, match=r"texts\.jsonl:3: not JSON"):
        list(read_chunks(path))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "expected an object, found list"),
        ('{"text": 3}', "'text' must be a string"),
        ('{"text": "a", "lang": 3}', "'lang' must be a string"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InvalidRecord, match=f":1: {reason}"):
        list(read_chunks(path))


def test_a_span_outside_the_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text('{"text": "short", "spans": [[0, 9, 1.0, false]]}\n', encoding="utf-8")
    with pytest.raises(InvalidRecord, match="outside the text"):
        list(read_labelled(path))


def test_labelled_records_survive_a_round_trip_through_gzip(tmp_path: Path) -> None:
    record = Labelled(
        "1",
        "서울 is big",
        (LabelSpan(0, 2, 1.0, True),),
        Origin("d", "s", "ko", "MIT"),
        ((3, 5),),
        "q?",
        {"gap": 0.5},
    )
    path = tmp_path / "out" / "labelled.jsonl.gz"
    assert write_lines(path, [labelled_line(record)]) == 1
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 1
    assert list(read_labelled(path)) == [record]


def test_a_single_answer_may_be_a_string(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text('{"context": "c", "question": "q", "answers": "a"}\n', encoding="utf-8")
    (record,) = read_answerable(path)
    assert record.answers == ("a",)


def test_holding_back_goes_by_document_whatever_its_case() -> None:
    held = [number for number in range(2000) if is_held_back(Origin(f"doc {number}"), 0.2)]
    assert 300 < len(held) < 500
    assert all(is_held_back(Origin(f" DOC {number}"), 0.2) for number in held)
    assert not any(is_held_back(Origin(str(number)), 0.0) for number in range(100))
