import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.units import NEIGHBOURS_UP_TO, question_units, split_units
from compressor.text.words import split_words


def sentences(text: str) -> list[str]:
    words = split_words(text)
    units = split_units(words).sentence
    firsts = np.flatnonzero(np.diff(units, prepend=-1))
    lasts = np.append(firsts[1:], len(words)) - 1
    return [text[words.starts[a] : words.ends[b]] for a, b in zip(firsts, lasts, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three! Four? Five", ["One two.", "Three!", "Four?", "Five"]),
        (
            "Dr. Who met J. Smith in the U.S. Army. Then left.",
            ["Dr. Who met J. Smith in the U.S. Army.", "Then left."],
        ),
        ("It is 3.14 e.g. here. Yes", ["It is 3.14 e.g. here.", "Yes"]),
        ('He said "stop." Then went.', ['He said "stop."', "Then went."]),
        ("你好。我们去！好吗？好", ["你好。", "我们去！", "好吗？", "好"]),
        ("これは本です。それも。", ["これは本です。", "それも。"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("यह है। वह है।", ["यह है।", "वह है।"]),
        ("- one\n- two\n\nthree", ["- one", "- two", "three"]),
        ("A: hi there\nB: hello", ["A: hi there", "B: hello"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_sentence_of_hard_wrapped_text_runs_over_its_line_breaks() -> None:
    text = "this is a rather long line of an e-mail that was\nwrapped by the program. Short.\n\nNext"
    assert sentences(text) == [
        "this is a rather long line of an e-mail that was\nwrapped by the program.",
        "Short.",
        "Next",
    ]


def test_escaped_line_breaks_end_sentences_in_json() -> None:
    assert sentences('{"a": "one two\\nthree four"}') == ['{"a": "one two', '\\nthree four"}']


def test_documents_and_paragraphs() -> None:
    text = "Document [1](Title: A) first text.\nDocument [2](Title: B) second text.\n\nAfter."
    units = split_units(split_words(text))
    assert units.document[-1] == 1
    assert units.paragraph[-1] == 2
    assert units.line[-1] == 2


@given(st.text(st.characters(), max_size=200))
def test_levels_nest_and_count_up(text: str) -> None:
    words = split_words(text)
    units = split_units(words)
    for level in (units.sentence, units.line, units.paragraph, units.document):
        assert len(level) == len(words)
        if len(level):
            assert level[0] == 0
            assert set(np.diff(level).tolist()) <= {0, 1}
    for inner, outer in (
        (units.sentence, units.paragraph),
        (units.line, units.paragraph),
        (units.paragraph, units.document),
    ):
        for unit in set(inner.tolist()):
            assert len(set(outer[inner == unit].tolist())) == 1


def test_short_texts_are_ranked_by_sentences_with_their_neighbours() -> None:
    ranked = question_units("One is here. Two is there. Three is gone.")
    assert ranked.passages == [
        "One is here. Two is there.",
        "One is here. Two is there. Three is gone.",
        "Two is there. Three is gone.",
    ]
    assert [(span.start, span.end) for span in ranked.spans] == [(0, 12), (13, 26), (27, 41)]


def test_long_texts_are_ranked_in_groups_that_cover_every_word_once() -> None:
    text = "This is sentence number one. " * (NEIGHBOURS_UP_TO // 20)
    ranked = question_units(text)
    assert ranked.passages == [text[span.start : span.end] for span in ranked.spans]
    assert "".join("".join(ranked.passages).split()) == "".join(text.split())
    assert len(ranked.spans) * 3 >= text.count(".") > len(ranked.spans) * 2


def test_nothing_to_rank() -> None:
    assert question_units(" \n").passages == []
