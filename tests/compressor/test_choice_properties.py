"""What holds for every text: checked on generated ones, in many scripts and in none."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compressor.errors import BudgetTooSmall
from compressor.shapes import DEFAULT_PROTECT, PROTECTABLE, Shortened
from compressor.text.choice import Passage, shorten_passages
from compressor.text.kinds import KINDS
from compressor.text.protection import protect_words
from compressor.text.tokens import counter_for
from compressor.text.words import split_words

COUNTER = counter_for("o200k_base")

_SNIPPET_LINES = """
The;quick;brown;fox.;Dr. Who;it's not;never;3.14;1,234.5;$5 million;foo_bar;getName();https://x.org/a?b=1,2
/usr/lib;a@b.org;@anna;我们在北京大学学习。;不喜欢
二十三个人;東京タワーは高い;らーめん;使用Python和Java
สวัสดีครับ;ไม่ชอบ;ภาษา;ភាសាខ្មែរ;မြန်မာဘာသာ;안녕하세요;않았다;مرحبا بالعالم
لا يوجد;שלום;👩‍👩‍👧‍👦;👍🏽;e\u0301
"quoted";(see;it);{"a": [1, "b"]};<b>bold</b>;`code x`;| a | b |;- item;1. first;Speaker A: hi;# Heading
word—word;a,b,c;\u200b;\ufeff;\x00;<;>;[;];``;~~~;::;\\n;Größe;naïve;ПРИВЕТ мир
हिन्दी में;x;ERROR failed;at f (a.js:1)
"""
_SNIPPETS = st.sampled_from(
    [snippet for line in _SNIPPET_LINES.split("\n") for snippet in line.split(";") if snippet]
)
_GAPS = st.sampled_from([" ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\n    ", "", "\u3000", "\n \n", ". "])
_SNIPPET_TEXTS = st.lists(st.tuples(_SNIPPETS, _GAPS), max_size=60).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)
_WILD_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
TEXTS = st.one_of(_SNIPPET_TEXTS, _WILD_TEXTS)
PROTECT = st.sampled_from(
    [frozenset(), frozenset(DEFAULT_PROTECT), frozenset({"numbers"}), frozenset({"code", "tags"})]
)


def passage_of(text: str, seed: int = 0, **options: object) -> Passage:
    values = np.random.default_rng(seed).integers(0, 256, len(split_words(text))).astype(np.uint8)
    return Passage(text, values, **options)  # type: ignore[arg-type]


def shorten(text: str, target: int, seed: int = 0, **options: object) -> Shortened:
    return shorten_passages([passage_of(text, seed, **options)], target, COUNTER)[0]


def fewest(passage: Passage) -> int:
    """The smallest budget that a passage allows."""
    try:
        shorten_passages([passage], 0, COUNTER)
    except BudgetTooSmall as error:
        return error.short_by
    return 0


def assert_slices(text: str, shortened: Shortened) -> None:
    assert "".join(text[span.start : span.end] for span in shortened.kept) == shortened.text
    ends = [0]
    for span in shortened.kept:
        assert ends[-1] <= span.start < span.end <= len(text)
        ends.append(span.end)


@given(TEXTS, st.sampled_from(KINDS))
def test_keeping_everything_gives_the_identical_string(text: str, kind: str) -> None:
    shortened = shorten(text, COUNTER.count(text), kind=kind)
    assert shortened.text == text
    assert shortened.tokens_after == shortened.tokens_before == COUNTER.count(text)
    assert_slices(text, shortened)


@example("The The 東京タワーは高い The /usr/lib\n    ", 0.95, 5, frozenset(), "auto")
@example('{"a": [1, "b"]} ', 0.95, 5, frozenset(), "auto")
@settings(max_examples=300)
@given(TEXTS, st.floats(0, 1), st.integers(0, 9), PROTECT, st.sampled_from(["auto", "words", "sentences"]))
def test_budget_slices_and_protection(
    text: str, share: float, seed: int, protect: frozenset[str], unit: str
) -> None:
    passage = passage_of(text, seed, protect=protect)
    least = fewest(passage)
    tokens = COUNTER.count(text)
    target = least + int(share * max(0, tokens - least))
    shortened = shorten_passages([passage], target, COUNTER, unit=unit)[0]  # type: ignore[arg-type]
    assert_slices(text, shortened)
    assert shortened.tokens_after == COUNTER.count(shortened.text) <= target
    # Protected words survive, each inside one kept slice.
    words = split_words(text)
    for index in np.flatnonzero(protect_words(words, protect).codes):
        start, end = int(words.starts[index]), int(words.ends[index])
        assert any(span.start <= start and end <= span.end for span in shortened.kept)
    _assert_budget_used(passage, shortened, target)


def _commas(word: str) -> int:
    """How many commas and semicolons end the word: they go with what they led to, and the word is there."""
    return len(word) - len(word.rstrip(",;،؛"))


def _assert_budget_used(passage: Passage, shortened: Shortened, target: int) -> None:
    """At least 98 % of the target, or whatever word is missing, one more is too much."""
    if shortened.tokens_after >= 0.98 * min(target, COUNTER.count(passage.text)):
        return
    words = split_words(passage.text)
    # What a line begins with (a bullet, who speaks) comes along with the line, never alone.
    heads = [found.span() for found in re.finditer(r"(?m)^[^\n:]{1,40}:|^[ \t]*\S+", passage.text)]
    dropped = [
        (int(start), int(end))
        for start, end in zip(words.starts, words.ends, strict=True)
        if not any(
            span.start <= start and end - _commas(passage.text[start:end]) <= span.end
            for span in shortened.kept
        )
        and not any(first <= start < last for first, last in heads)
    ]
    spare = target - shortened.tokens_after
    # What one more word costs depends on its neighbours; each costs at least a share of its own tokens. The
    # first word of a line that was left out brings along what the line begins with.
    cheap = []
    for start, end in dropped:
        line = passage.text.rfind("\n", 0, start) + 1
        if not any(span.start < start and line < span.end for span in shortened.kept):
            start = line
        if not passage.text[end:].strip():  # the white space behind the last word stays with it
            end = len(passage.text)
        if COUNTER.count(passage.text[start:end]) + 2 <= spare:
            cheap.append(passage.text[start:end])
    assert not cheap or spare <= 3, (spare, cheap)


@given(TEXTS, st.integers(1, 40))
def test_words_that_were_apart_stay_apart_and_no_space_is_doubled(text: str, target: int) -> None:
    passage = passage_of(text, protect=frozenset())
    shortened = shorten_passages([passage], max(target, fewest(passage)), COUNTER)[0]
    for left, right in zip(shortened.kept, shortened.kept[1:], strict=False):
        gone = text[left.end : right.start]
        before, after = text[left.end - 1], text[right.start]
        if any(character.isspace() for character in gone) and not before.isspace() and not after.isspace():
            raise AssertionError((text, shortened.text, before, after))
        assert not (before == after == " ")


@given(st.lists(TEXTS, max_size=4), st.floats(0, 1), st.integers(0, 5))
def test_many_passages_share_one_budget(texts: list[str], share: float, seed: int) -> None:
    passages = [passage_of(text, seed + index) for index, text in enumerate(texts)]
    least = sum(fewest(passage) for passage in passages)
    total = sum(COUNTER.count(text) for text in texts)
    target = least + int(share * max(0, total - least))
    results = shorten_passages(passages, target, COUNTER)
    assert [one.tokens_before for one in results] == [COUNTER.count(text) for text in texts]
    assert sum(COUNTER.count(one.text) for one in results) <= target
    again = shorten_passages(passages, target, COUNTER)
    assert [one.text for one in again] == [one.text for one in results]
    for text, one in zip(texts, results, strict=True):
        assert_slices(text, one)


@given(TEXTS, st.sampled_from(KINDS), st.floats(0, 1))
def test_every_kind_stays_within_the_budget_on_any_text(text: str, kind: str, share: float) -> None:
    passage = passage_of(text, kind=kind)
    least = fewest(passage)
    target = least + int(share * max(0, COUNTER.count(text) - least))
    try:
        shortened = shorten_passages([passage], target, COUNTER)[0]
    except BudgetTooSmall:
        # A result that failed its check goes whole, which may be more than the budget.
        return
    assert_slices(text, shortened)
    assert COUNTER.count(shortened.text) <= target


@pytest.mark.parametrize(
    "unit", ["a", " ", "中", "\n", "é", "1", ",", "👍", "ก้", "<a>", "\x00", "a b ", "{", "[", "```\n", "|"]
)
def test_a_hundred_thousand_of_one_sign(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    tokens = COUNTER.count(text)
    passage = passage_of(text, protect=frozenset())
    shortened = shorten_passages([passage], max(tokens // 2, fewest(passage)), COUNTER)[0]
    assert COUNTER.count(shortened.text) <= max(tokens // 2, fewest(passage))


def test_all_kinds_of_protection_are_known() -> None:
    assert set(DEFAULT_PROTECT) == PROTECTABLE
