import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.errors import InvalidOption
from compressor.shapes import DEFAULT_PROTECT, PROTECTABLE
from compressor.text.protection import CODE, REASONS, protect_words
from compressor.text.words import split_words
from compressor.turns import giving_way


def protected(text: str, *kinds: str, force: tuple[str, ...] = ()) -> list[str]:
    """The protected words of a text."""
    words = split_words(text)
    codes = protect_words(words, frozenset(kinds), force).codes
    return [word for word, code in zip(words.strings(), codes.tolist(), strict=True) if code]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It cost $3.14 or 1,234 in all", ["$3.14", "1,234"]),
        ("about 5 million people, 20 % of them", ["5", "million", "20", "%"]),
        ("on 5 May 2024 or May 6", ["5", "May", "2024", "May", "6"]),
        ("they pay USD 20 each", ["USD", "20"]),
        ("٣٫١٤ متر و १२ किलो", ["٣٫١٤", "१२"]),
        ("他有二十三个人和朋友", ["二十三个人"]),
        ("version v1.2.3-rc1 (2024-03-05)", ["v1.2.3-rc1", "(2024-03-05)"]),
        ("no figures at all", []),
    ],
)
def test_numbers_keep_what_makes_them_mean_something(text: str, expected: list[str]) -> None:
    assert protected(text, "numbers") == expected


@pytest.mark.parametrize(
    "name",
    [
        "foo_bar",
        "__init__",
        "camelCase",
        "HTTPServer",
        "os.path",
        "src/main.py",
        "/usr/lib",
        "./run.sh",
        "C:\\new\\file",
        "getName()",
        "@anna",
        "$HOME",
        "--verbose",
        "std::vector",
        "abc123def",
        "9f86d081884c7d65",
        "123e4567-e89b-12d3-a456-426614174000",
        "order-service-prod",
        "localhost:8080",
        "key=value",
    ],
)
def test_identifiers(name: str) -> None:
    assert protected(f"Then we saw {name}, which surprised everybody.", "identifiers") == [f"{name},"]


@pytest.mark.parametrize("word", ["Hello", "end.", "well-known", "and/or", "U.S.", "don't", "(see", "note:"])
def test_ordinary_words_are_no_identifiers(word: str) -> None:
    assert protected(f"So {word} then", "identifiers") == []


def test_urls_and_mail_addresses() -> None:
    text = "See https://a.b/c?d=e, www.x.org, example.com/x or mail me@x.org now"
    assert protected(text, "urls") == ["https://a.b/c?d=e,", "www.x.org,", "example.com/x", "me@x.org"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We did not go there", ["not", "go"]),
        ("It isn't so. Never, ever", ["isn't", "so.", "Never,"]),
        ("Das ist nicht wahr und kein Problem", ["nicht", "wahr", "kein", "Problem"]),
        ("Ce n'est pas vrai", ["n'est", "pas", "vrai"]),
        ("no es así", ["no", "es"]),
        ("я не знаю", ["не", "знаю"]),
        ("나는 안 먹었고 가지 않았다", ["안", "먹었고", "않았다"]),
        ("هذا ليس صحيحا", ["ليس", "صحيحا"]),
        ("我不喜欢", ["不"]),
        ("特别非常好", []),
        ("これは食べない", ["な", "い"]),
        ("ฉันไม่ชอบ", ["ไม่"]),
    ],
)
def test_negations_take_their_word_along(text: str, expected: list[str]) -> None:
    assert protected(text, "negations") == expected


def test_code_json_tags_and_tables() -> None:
    text = "Run `make all` now:\n```py\nx = 1\n```\nor\n\n    import os\n    os.exit(1)\n\n<b>go</b> on"
    assert " ".join(protected(text, "code")) == "`make all` ```py x = 1 ``` import os os.exit(1)"
    assert protected(text, "tags") == ["<b>", "</b>"]
    assert protected('got {"a": [1, "x y"]} and [see below] (x)', "json") == ['{"a":', "[1,", '"x', 'y"]}']
    table = "| Name | Age |\n|---|---|\n| Anna Lee | old |\n"
    assert " ".join(protected(table, "tables")) == "| Name | Age | | --- | --- | | | |"


def test_an_unclosed_fence_protects_to_the_end() -> None:
    assert protected("go\n```\na b\nc", "code") == ["```", "a", "b", "c"]


def test_force_tokens_hold_words_or_only_their_punctuation() -> None:
    words = split_words("Stop here. Or not, Anna Lee!")
    protection = protect_words(words, frozenset(), (".", "Anna Lee"))
    assert [REASONS[code] for code in protection.codes] == ["", "", "", "", "forced", "forced"]
    assert words.text[protection.tails[1] : words.ends[1]] == "."


@pytest.mark.parametrize("at_once", [1, 3])
def test_words_are_looked_at_some_at_a_time_while_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    text = "Never pay 5 EUR or USD 7, not to a@b.org, nor via read_file() or https://x.org/no. It is no. " * 9
    text += "\n```\nnot 1\n``` nicht-staatlich"
    words = split_words(text)
    expected = protect_words(words, PROTECTABLE, ("EUR",)).codes
    assert set(expected.tolist()) >= {0} | {CODE[kind] for kind in ("negations", "numbers", "urls", "code")}
    turns: list[None] = []
    monkeypatch.setattr("compressor.text.words._AT_ONCE", at_once)
    with giving_way(lambda: turns.append(None)):
        assert np.array_equal(protect_words(words, PROTECTABLE, ("EUR",)).codes, expected)
    assert len(turns) > 50 / at_once


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InvalidOption, match="'nonsense'; known are code"):
        protect_words(split_words("a"), frozenset({"nonsense"}))


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_can_be_looked_through(text: str) -> None:
    words = split_words(text)
    codes = protect_words(words, PROTECTABLE, (".", "a")).codes
    for word, code in zip(words.strings(), codes.tolist(), strict=True):
        assert code or not any(character.isdecimal() for character in word)


@pytest.mark.parametrize(
    "unit",
    [
        "[ ",
        '{"',
        "[1,",
        "<a",
        "``",
        "```\n",
        "|a|\n",
        "- -|- -\n",
        "    x\n",
        "a_",
        "://",
        "不",
        "[" * 50 + " ",
    ],
)
def test_linear_time_on_hostile_text(unit: str) -> None:
    words = split_words(unit * (400_000 // len(unit)))
    began = time.process_time()
    codes = protect_words(words, frozenset(DEFAULT_PROTECT)).codes
    assert time.process_time() - began < 8  # under 1 s alone; quadratic would take minutes
    assert codes.dtype == np.uint8


@pytest.mark.parametrize(
    "text",
    [
        "postsekundär (nicht-tertiär) genannt",
        "used.[not in the source] again",
        "ni lui ni moi",
        "a no-one b",
        "what we do is not\u2014and I know",
        "you haven't\u2014it is",
        "Oh, no\u2014",
        "I am-never said",
        "Non.L'internaute doit",
        "the None-aware operator",
    ],
)
def test_negations_of_other_languages_and_inside_longer_runs_stay(text: str) -> None:
    words = split_words(text)
    codes = protect_words(words, frozenset({"negations"})).codes
    stays = [word for word, code in zip(words.strings(), codes.tolist(), strict=True) if code]
    negations = ("nicht", "not", "ni", "no", "Non.", "haven", "never", "None")
    assert any(part in word for word in stays for part in negations), stays


@pytest.mark.parametrize("text", ["a non-native speaker", "the nonet plays", "www.notes.org", "in novembre"])
def test_words_that_only_begin_like_negations_are_free(text: str) -> None:
    words = split_words(text)
    assert not protect_words(words, frozenset({"negations"})).codes.any()
