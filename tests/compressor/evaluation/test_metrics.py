from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.evaluation.metrics.answers import (
    contains_answer,
    exact_match,
    f1,
    normalise,
    reasoned_answer,
    reasoning_match,
)
from compressor.evaluation.metrics.intervals import mean_interval, paired_interval
from compressor.evaluation.metrics.overlap import bleu, common_length, rouge_l, rouge_n
from compressor.evaluation.metrics.survival import fact_recall, is_json, survival


def test_normalise() -> None:
    assert normalise("The  Chief-of (Protocol)!") == "chief of protocol"
    assert normalise("２月９日。") == "2月9日"


@pytest.mark.parametrize(
    ("answer", "golds", "expected"),
    [
        ("It was in 1834, I think.", ["1837", "1834"], 1.0),
        ("\n\nChief of Protocol\nbecause", ["chief of protocol"], 1.0),
        ("I do not know.\n1834", ["1834"], 0.0),  # only the first line counts
        ("", ["1834"], 0.0),
        ("1989년 2월15일", ["1989년 2월 15일"], 1.0),  # spaces do not decide in Korean
        ("在歐洲", ["歐洲"], 1.0),
        ("The The", ["The"], 1.0),  # a gold answer that normalises to nothing is compared as it is
        ("a car pet", ["carpet"], 0.0),
    ],
)
def test_exact_match(answer: str, golds: list[str], expected: float) -> None:
    assert exact_match(answer, golds) == expected


def test_contains_answer_sees_the_whole_text() -> None:
    assert contains_answer("one\ntwo\nMount  Everest", ["Mount Everest"])
    assert not contains_answer("", ["x"])


def test_f1_by_hand() -> None:
    # said: big red dog; gold: red dog house -> 2 common of 3 and 3
    assert f1("The big red dog", ["a red dog house", "nothing"]) == pytest.approx(2 / 3)
    assert f1("歐洲人", ["歐洲"]) == pytest.approx(2 * 2 / (3 + 2))
    assert f1("", ["x"]) == 0.0


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("40 + 120 = 160. The answer is 160", "160", 1.0),
        ("So the answer is $1,600.00.", "1600", 1.0),
        ("first 3 then 160", "160", 1.0),  # the last number
        ("The answer is 16", "160", 0.0),
        ("So the answer is (A).", "(A)", 1.0),
        ("So the answer is False.", "True", 0.0),
        ("", "160", 0.0),
    ],
)
def test_reasoning_match(answer: str, gold: str, expected: float) -> None:
    assert reasoning_match(answer, [gold]) == expected


def test_reasoned_answer_takes_the_last_one() -> None:
    assert reasoned_answer("the answer is 3. No: the answer is 4.") == "4"


def test_rouge_by_hand() -> None:
    text, reference = "the cat sat on the mat", "the cat lay on a mat"
    # unigrams: the cat on mat = 4 of 6 and 6; bigrams: "the cat" = 1 of 5 and 5; LCS: the cat on mat = 4
    assert rouge_n(text, [reference], 1) == pytest.approx(4 / 6)
    assert rouge_n(text, [reference], 2) == pytest.approx(1 / 5)
    assert rouge_l(text, [reference]) == pytest.approx(4 / 6)
    assert rouge_l(text, ["no overlap", reference]) == pytest.approx(4 / 6)
    assert rouge_l("", [reference]) == 0.0


def test_bleu_by_hand() -> None:
    # precisions 4/6, (1+1)/(5+1), (0+1)/(4+1), (0+1)/(3+1), equal length
    expected = math.exp(sum(math.log(p) for p in (4 / 6, 2 / 6, 1 / 5, 1 / 4)) / 4)
    assert bleu("the cat sat on the mat", ["the cat lay on a mat"]) == pytest.approx(expected)
    assert bleu("the cat lay on a mat", ["the cat lay on a mat"]) == pytest.approx(1.0)
    assert bleu("the cat", ["the cat lay on"]) == pytest.approx(math.exp(1 - 4 / 2))
    assert bleu("", ["x"]) == 0.0
    assert bleu("x", ["y"]) == 0.0


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_length_is_the_textbook_one(left: list[str], right: list[str]) -> None:
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    assert common_length(left, right) == table[-1][-1]


def test_survival_counts_occurrences() -> None:
    original = "Do not pay 3.14 to user_id 42 at https://a.example/x?y=1. It isn't getUser, 42!"
    shortened = "pay 14 user_id 42 isn't https://a.example/x"
    found = survival(original, shortened)
    assert found["numbers"] == (1, 4)  # one 42 of two is left, 3.14 was cut to 14, the URL's 1 is gone
    assert found["negations"] == (1, 2)
    assert found["urls"] == (0, 1)
    assert found["identifiers"] == (1, 2)
    assert survival("", "x")["numbers"] == (0, 0)


def test_facts_end_where_scripts_without_spaces_go_on() -> None:
    found = survival(
        "美国GDP为20.9万亿，RS485通讯，见http://a.cn/x?id=7、多线程", "20.9 RS485 http://a.cn/x?id=7"
    )
    assert found["numbers"] == (2, 2) and found["identifiers"] == (1, 1) and found["urls"] == (1, 1)


def test_survival_of_an_unchanged_text_is_complete() -> None:
    text = "never 12,500.75 in v1_2 getName a1b2c3 http://x.example 不"
    assert all(after == before for after, before in survival(text, text).values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (' {"a": [1]} ', True),
        ("[1, 2]", True),
        ('{"a": ', False),
        ("3", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_is_json(text: str, expected: bool) -> None:
    assert is_json(text) is expected


def test_fact_recall() -> None:
    original = "The tool of Cyrus McCormick cost 26 dollars in Virginia."
    assert fact_recall(original, "cyrus mccormick sold it for 26 in virginia") == pytest.approx(
        3 / 3, abs=0.34
    )
    assert fact_recall(original, "nothing") == 0.0
    assert fact_recall("only small words here", "") is None


def test_intervals() -> None:
    found = mean_interval([0.0, 1.0] * 100)
    assert found.mean == 0.5 and found.count == 200
    # standard error sqrt(0.25 / 200) = 0.0354, times 1.96
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0354, rel=0.1)
    assert mean_interval([1.0] * 5) == mean_interval([1.0] * 5)
    paired = paired_interval([1.0] * 30, [0.0] * 30)
    assert paired.excludes_zero and paired.low == 1.0
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
