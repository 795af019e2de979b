from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compressor.errors import BudgetTooSmall, InvalidBudget, InvalidOption
from compressor.shapes import Span
from compressor.text.choice import Passage, shorten_passages
from compressor.text.passages import outline
from compressor.text.selection import Columns, Level, Sizes, keep_order, plan_levels
from compressor.text.tokens import counter_for
from compressor.text.words import split_words

COUNTER = counter_for("o200k_base")


def scored(text: str, low: str = "", high: str = "", **options: Any) -> Passage:
    """Every word scores 100, those of `low` 10 and those of `high` 200."""
    values = [
        10 if word in low.split() else 200 if word in high.split() else 100
        for word in split_words(text).strings()
    ]
    options.setdefault("protect", frozenset())
    return Passage(text, np.asarray(values, np.uint8), **options)


def shortened(passage: Passage, less: int, **options: Any) -> str:
    """The text with a budget of so many tokens less than it has."""
    return shorten_passages([passage], COUNTER.count(passage.text) - less, COUNTER, **options)[0].text


def test_the_lowest_words_go_first_and_ties_go_to_the_earlier_word() -> None:
    assert shortened(scored("one two three four five", low="two four"), 2) == "one three five"
    assert shortened(scored("one two three four five"), 2) == "one two three"


@pytest.mark.parametrize(
    ("text", "low", "expected"),
    [
        ("a b c\nd e f\n", "b", "a c\nd e f\n"),
        ("one x\nx two\n\nx three", "x", "one\ntwo\n\nthree"),
        ("one\nx x\ntwo", "x", "one\ntwo"),
        ("one\n\nx x\n\ntwo", "x", "one\n\ntwo"),
        ("one\n\nx x\ntwo", "x", "one\n\ntwo"),
        ("def f():\n    x = y\n    return z", "x = y", "def f():\n    return z"),
        ("x one  two", "x", "one  two"),
        ("one\r\nx\r\ntwo", "x", "one\r\ntwo"),
        ("使用Python和Java写", "和", "使用Python和Java"),
        ("我 很 好", "很", "我 好"),
        ("貓兔狗", "兔", "貓狗"),
    ],
)
def test_spaces_and_line_breaks(text: str, low: str, expected: str) -> None:
    less = COUNTER.count(text) - COUNTER.count(expected)
    assert shortened(scored(text, low=low), less, unit="words") == expected


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("海拔26～60米的台地，沿海多为海拔-1.5～20米台地", ["26", "60", "-1.5", "20"]),
        ("诉讼请求：2.本案费用由三被告承担。2013年5月17日，被告", ["2", "2013", "17"]),
        ("棉花原种场04.30.4-泗阳农场25.680.44-总计226", ["04.30.4", "25.680.44", "226"]),
        ("骨骼中氧-18和氧-16的比例", ["-18", "-16"]),
    ],
)
def test_numbers_do_not_run_into_each_other_where_the_words_between_them_go(
    text: str, numbers: list[str]
) -> None:
    words = split_words(text)
    passage = Passage(text, np.full(len(words), 9, np.uint8), protect=frozenset({"numbers", "identifiers"}))
    (result,) = shorten_passages([passage], 0, counter_for("o200k_base"), stretch=True)
    assert len(result.text) < len(text)
    found = re.findall(r"-?\d+(?:[.,:/\-]\d+)*", result.text)
    assert [number for number in found if number in numbers] == numbers, result.text


def test_forced_line_breaks_and_punctuation_stay() -> None:
    text = "one two.\nthree four.\nfive six."
    passage = scored(text, high="one", force_tokens=("\n", "."))
    least = shorten_passages([passage], 100, COUNTER)[0].tokens_before
    for target in range(6, least):
        try:
            result = shorten_passages([passage], target, COUNTER, unit="words")[0].text
        except BudgetTooSmall:
            continue
        assert result.count("\n") == 2
        assert result.count(".") == 3


def test_one_threshold_over_all_passages() -> None:
    passages = [scored("bad bad bad bad"), scored("good good good good", high="good")]
    results = shorten_passages(passages, 5, COUNTER)
    assert [one.text for one in results] == ["bad", "good good good good"]


def test_a_whole_passage_stays_and_counts() -> None:
    passages = [scored("keep me as I am", low="keep me", whole=True), scored("one two three four")]
    results = shorten_passages(passages, 7, COUNTER)
    assert [one.text for one in results] == ["keep me as I am", "one two"]


def test_stay_spans_survive() -> None:
    assert shortened(scored("one two three four", low="two three", stay=(Span(4, 7),)), 2) == "one two"


def test_a_budget_below_what_must_stay_says_by_how_much() -> None:
    passage = scored("keep 11 22 33 and lose this", protect=frozenset({"numbers"}))
    with pytest.raises(BudgetTooSmall) as caught:
        shorten_passages([passage], 2, COUNTER)
    exact = shorten_passages([passage], 2 + caught.value.short_by, COUNTER)[0]
    assert exact.text == "11 22 33"
    assert exact.tokens_after == 2 + caught.value.short_by
    with pytest.raises(BudgetTooSmall) as again:
        shorten_passages([passage], exact.tokens_after - 1, COUNTER)
    assert again.value.short_by == 1


def test_bad_calls() -> None:
    with pytest.raises(InvalidBudget):
        shorten_passages([scored("a")], -1, COUNTER)
    with pytest.raises(InvalidOption, match="has 2 words, got 1"):
        shorten_passages([Passage("a b", np.zeros(1, np.uint8))], 1, COUNTER)
    with pytest.raises(InvalidOption, match="one value a word"):
        shorten_passages([Passage("a b", np.zeros((2, 1), np.uint8))], 1, COUNTER)
    with pytest.raises(InvalidOption, match="relevance"):
        shorten_passages([scored("One is. Two is. Three is.", relevance=np.zeros(1, np.uint8))], 1, COUNTER)


def test_a_target_stretches_to_what_must_stay() -> None:
    passage = scored("one 11 two 22 three 33 four.", protect=frozenset({"numbers"}))
    with pytest.raises(BudgetTooSmall) as raised:
        shorten_passages([passage], 2, COUNTER)
    stretched = shorten_passages([passage], 2, COUNTER, stretch=True)[0]
    assert stretched.text == shorten_passages([passage], 2 + raised.value.short_by, COUNTER)[0].text
    assert stretched.tokens_after == 2 + raised.value.short_by


def test_an_outline_made_before_changes_nothing() -> None:
    passage = scored("The first one is short. The second 22 is not. # A third, of many words, follows both.")
    before = replace(passage, outline=outline(replace(passage, scores=np.zeros(0, np.uint8)), COUNTER))
    for target in (12, 18):
        assert shorten_passages([before], target, COUNTER)[0].text == (
            shorten_passages([passage], target, COUNTER)[0].text
        )


def test_nothing_and_only_spaces() -> None:
    assert shorten_passages([], 5, COUNTER) == []
    empty, spaces = shorten_passages([scored(""), scored(" \n ")], 0, COUNTER)
    assert (empty.text, empty.kept, empty.tokens_before, spaces.text) == ("", (), 0, "")
    assert shorten_passages([scored(" \n ")], 5, COUNTER)[0].text == " \n "


def test_decisions_say_why() -> None:
    text = "Good fox runs. Dull cow eats. Dull pig eats. Dull hen eats 7 seeds."
    passage = scored(
        text, low="Dull cow eats. pig hen eats seeds.", high="Good", protect=frozenset({"numbers"})
    )
    target = COUNTER.count(text) // 3
    one = shorten_passages([passage], target, COUNTER, explain=True, unit="sentences")[0]
    reasons = {text[d.span.start : d.span.end]: (d.kept, d.reason) for d in one.decisions}
    assert reasons["Good"] == (True, "score")
    assert reasons["7"] == (True, "protected:numbers")
    assert reasons["pig"] == (False, "unit")
    assert [d.score for d in one.decisions] == [value / 255 for value in passage.scores.tolist()]


SENTENCES = (
    "The first is about cats. The second is about bridges. Third come the ships. The last is about rain."
)


def test_with_a_question_whole_sentences_that_bear_on_it_stay() -> None:
    passage = scored(SENTENCES, relevance=np.asarray([0, 250, 0, 120], np.uint8))
    half = COUNTER.count(SENTENCES) // 2 + 1
    assert shorten_passages([passage], half, COUNTER)[0].text.startswith("The second is about bridges.")
    assert "rain." in shorten_passages([passage], half, COUNTER)[0].text


def test_without_a_question_words_stay_in_runs() -> None:
    text = SENTENCES.replace("come the", "come old")
    passage = scored(text, high="Third come ships.")
    passage.scores[split_words(text).strings().index("old")] = 60  # less than any other word
    quarter = COUNTER.count(text) // 4 + 1
    result = shorten_passages([passage], quarter, COUNTER)[0].text
    assert "Third come old ships." in result  # without it the run would have two ends more
    assert "rain" not in result


@pytest.mark.parametrize(
    ("sizes", "keep", "asked", "expected"),
    [
        (Sizes(1000, 3, 1, 1), 0.5, False, ()),
        (Sizes(1000, 50, 5, 1), 0.8, False, ()),
        (Sizes(1000, 50, 5, 1), 0.5, False, ()),  # words in runs
        (Sizes(1000, 50, 5, 1, prose=False), 0.5, False, (Level("sentence", 2.0),)),
        (Sizes(1000, 50, 5, 1), 0.5, True, (Level("sentence", 1.0),)),
        (Sizes(150, 5, 1, 1), 0.15, True, ()),  # words, by their score and their sentence
        (
            Sizes(9000, 400, 60, 12, prose=False),
            0.33,
            False,
            (Level("document", 3.5), Level("paragraph", 2.5), Level("sentence", 2.0)),
        ),
        (Sizes(9000, 400, 60, 12), 0.33, False, ()),
    ],
)
def test_the_rule_of_units(sizes: Sizes, keep: float, asked: bool, expected: tuple[Level, ...]) -> None:
    assert plan_levels(sizes, keep, asked=asked) == expected


def test_keep_order_is_a_permutation_of_the_free_words() -> None:
    rng = np.random.default_rng(0)
    free = rng.random(200) < 0.8
    unit = np.sort(rng.integers(0, 20, 200)).astype(np.int64)
    columns = Columns(
        scores=rng.integers(0, 5, 200).astype(np.float32),
        costs=np.ones(200, np.float32),
        own_costs=np.ones(200, np.float32),
        free=free,
        group=np.full(200, -1),
        sentence=unit,
        paragraph=unit // 4,
        document=unit // 10,
        relevance=None,
        passage=np.zeros(200, np.int64),
        prose=np.ones(200, bool),
        must_stay=~free,
    )
    ordered = keep_order(columns, columns.scores, 40.0, (Level("paragraph", 2.0), Level("sentence", 1.5)))
    assert sorted(ordered.order.tolist()) == np.flatnonzero(free).tolist()
    tiers = ordered.tier[ordered.order]
    assert np.all(np.diff(tiers) >= 0)
    assert 60 <= (tiers == 0).sum() < 120


def test_scores_rounded_to_bytes_give_the_same_text_each_time() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 40
    passage = Passage(text, np.full(len(split_words(text)), 128, np.uint8), protect=frozenset())
    results = {shorten_passages([passage], 100, COUNTER)[0].text for _ in range(3)}
    assert len(results) == 1


def test_a_comma_goes_with_the_word_behind_it() -> None:
    text = "alpha, beta gamma, delta end."
    keep = {"alpha,": 250, "gamma,": 240, "delta": 230}
    scores = np.asarray([keep.get(word, 10) for word in split_words(text).strings()], np.uint8)
    passage = Passage(text, scores, protect=frozenset())
    (short,) = shorten_passages([passage], COUNTER.count("alpha gamma, delta"), COUNTER, unit="words")
    assert short.text == "alpha gamma, delta"
    forced = replace(passage, force_tokens=(",",))
    (short,) = shorten_passages([forced], COUNTER.count("alpha, gamma, delta"), COUNTER, unit="words")
    assert short.text == "alpha, gamma, delta"


def test_few_sentences_with_a_question_are_shortened_by_words() -> None:
    text = "A quick fox jumped over one lazy dog. Cats slept all day in warm sun. Birds sang."
    scores = np.where([len(word) > 3 for word in split_words(text).strings()], 200, 50).astype(np.uint8)
    passage = Passage(text, scores, protect=frozenset(), relevance=np.asarray([0, 250, 0], np.uint8))
    (short,) = shorten_passages([passage], 11, COUNTER)
    assert {"Cats", "slept", "warm"} <= set(short.text.split())
    assert "fox" not in short.text
