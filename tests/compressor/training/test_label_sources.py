from __future__ import annotations

from pathlib import Path

import pytest

from compressor.training import label_sources as sources
from compressor.training.licences import may_ship
from compressor.training.records import Answerable, InvalidRecord, Origin
from tests.compressor.training.conftest import write_rows

TEXT = "Otto Silber built the bridge in 1912. The weather was fine. He was paid 1912 crowns."


def asked(question: str, *answers: str, text: str = TEXT) -> Answerable:
    return Answerable("1", text, question, answers, Origin("d", "s", "en", "MIT"))


def test_answers_are_whole_words_and_few() -> None:
    assert sources.answer_spans("Ann and Anna met Ann.", "ann") == [(0, 3), (17, 20)]
    assert len(sources.answer_spans("he " * 20, "he")) == 1
    assert sources.answer_spans("text", "  ") == []


def test_answers_and_question_words_are_kept() -> None:
    (record,) = sources.label_answers(
        [asked("Who built the bridge?", "Otto Silber"), asked("When?", "in 1912")]
    )
    whole = {TEXT[span.start : span.end] for span in record.spans if span.whole}
    shared = {TEXT[span.start : span.end] for span in record.spans if not span.whole}
    assert whole == {"Otto Silber", "in 1912"}
    assert shared == {"built", "bridge"}


def test_only_documents_with_an_answer_are_used() -> None:
    context = "Document [1](Title: A) Nothing here.\nDocument [2](Title: B) Otto Silber came."
    (record,) = sources.label_answers([asked("Who came?", "Otto Silber", text=context)])
    assert record.text == "Document [2](Title: B) Otto Silber came."


def test_labels_for_one_question_prefer_its_sentence() -> None:
    (record,) = sources.label_for_questions([asked("Who built the bridge?", "Otto Silber")])
    keeps = {TEXT[span.start : span.end].strip(): span.keep for span in record.spans}
    assert keeps["Otto Silber"] == 1.0
    assert keeps["Otto Silber built the bridge in 1912."] == sources.ANSWER_SENTENCE_KEEP
    assert record.question == "Who built the bridge?"


def test_summaries_highlights_turns_and_deletions(tmp_path: Path) -> None:
    (summary,) = sources.label_summaries([asked("Summarise.", "A bridge, built 1912")])
    assert {TEXT[span.start : span.end] for span in summary.spans} == {"built", "bridge", "1912"}
    marked = write_rows(tmp_path / "h.jsonl", [{"text": "abcdef", "kept_spans": [[1, 3]]}])
    (highlight,) = sources.label_highlights(marked, "MIT")
    assert (highlight.spans[0].start, highlight.spans[0].end, highlight.origin.lic) == (1, 3, "MIT")
    turns = ["A: hello there", "B: the microphone broke", "A: fine", "B: bye", "A: good evening everyone"]
    query = {"question": "What broke?", "answer": "The microphone.", "turn_spans": [[1, 1]]}
    rows = write_rows(tmp_path / "t.jsonl", [{"id": "m", "turns": turns, "queries": [query]}])
    one, together = sources.label_turns(rows, "MIT")
    assert one.text[one.spans[0].start : one.spans[0].end] == "B: the microphone broke\n"
    assert {together.text[span.start : span.end] for span in together.spans} == {"microphone", "broke"}
    cut = write_rows(tmp_path / "d.jsonl", [{"text": "a b c", "kept": [1, 0, 1]}])
    (deletion,) = sources.label_deletions(cut)
    assert [(span.start, span.end) for span in deletion.spans] == [(0, 1), (4, 5)]


def test_broken_sources_are_named_by_line(tmp_path: Path) -> None:
    wrong = write_rows(tmp_path / "d.jsonl", [{"text": "a b", "kept": [1, 0]}, {"text": "a b", "kept": [1]}])
    with pytest.raises(InvalidRecord, match=r"d\.jsonl:2: 'kept' must have one entry"):
        list(sources.label_deletions(wrong))
    with pytest.raises(InvalidRecord, match=r"d\.jsonl:1: 'kept_spans'"):
        list(sources.label_highlights(wrong))
    with pytest.raises(InvalidRecord, match=r"d\.jsonl:1: broken turns"):
        list(sources.label_turns(wrong))


@pytest.mark.parametrize(
    ("licence", "ships"),
    [
        ("CC-BY-SA-4.0", True),
        ("MIT/Apache-2.0", True),
        ("Apache-2.0(repo; news articles)", True),
        ("CC-BY-NC-4.0", False),
        ("CC-BY-ND-2.0-KR", False),
        ("MIT(LongBench; Multi-News research)", False),
        ("unstated(MIT repo)", False),
        ("GPL-3.0(repo)", False),
        ("", False),
    ],
)
def test_only_licences_that_allow_it_may_ship(licence: str, ships: bool) -> None:
    assert may_ship(licence) is ships
