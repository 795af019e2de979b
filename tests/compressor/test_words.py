import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text.words import split_words


def words_of(text: str) -> list[str]:
    return split_words(text).strings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world! (see it)", ["Hello,", "world!", "(see", "it)"]),
        ("It cost $3.14, not 1,234.50.", ["It", "cost", "$3.14,", "not", "1,234.50."]),
        ("v1.2.3-rc1 on 2024-03-05T10:00:00Z", ["v1.2.3-rc1", "on", "2024-03-05T10:00:00Z"]),
        ("1\u202f234\u202f567 m", ["1\u202f234\u202f567", "m"]),
        ("see https://a.b/c,d;e?x=1,2 now", ["see", "https://a.b/c,d;e?x=1,2", "now"]),
        ("mail a.b@c.org or @anna_k", ["mail", "a.b@c.org", "or", "@anna_k"]),
        (
            "foo_bar.baz(qux) /usr/lib/x.py C:\\new\\file",
            ["foo_bar.baz(qux)", "/usr/lib/x.py", "C:\\new\\file"],
        ),
        ("123e4567-e89b-12d3-a456-426614174000", ["123e4567-e89b-12d3-a456-426614174000"]),
        ("red,green;blue", ["red,", "green;", "blue"]),
        ("word—word…then", ["word—", "word…", "then"]),
        ("|a|b c|", ["|", "a", "|", "b", "c", "|"]),
        ('<p class="a b">The <b>cat</b></p>', ["<p", 'class="a', 'b">', "The", "<b>", "cat", "</b>", "</p>"]),
    ],
)
def test_spaced_scripts(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("你好。我们在2024年3月5日去", ["你", "好。", "我", "们", "在", "2024年3月5日", "去"]),
        ("二十三人", ["二十三人"]),
        ("東京タワーは３００円", ["東", "京", "タワー", "は", "３００円"]),
        ("しゃしん「本」", ["しゃ", "し", "ん", "「本」"]),
        ("使用Python和Java", ["使", "用", "Python", "和", "Java"]),
        ("见https://x.org/wiki/北京 好", ["见", "https://x.org/wiki/北京", "好"]),
        ("เรียนการ์ตูน", ["เรี", "ย", "น", "การ์", "ตู", "น"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្មែ", "រ"]),
        ("မြန်မာ", ["မြန်", "မာ"]),
        ("중앙 싸움에서 앞선", ["중앙", "싸움에서", "앞선"]),
        ("على 3.5 متر، لا", ["على", "3.5", "متر،", "لا"]),
        ("👩‍👩‍👧‍👦👍🏽 中👩‍👩‍👧文", ["👩‍👩‍👧‍👦👍🏽", "中", "👩‍👩‍👧", "文"]),
        ("中文\u0301字", ["中", "文\u0301", "字"]),
    ],
)
def test_unspaced_scripts(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_line_break_escapes_are_cut_in_json_only() -> None:
    assert words_of('{"a": "one\\ntwo x\\\\n"}') == ['{"a":', '"one', "\\ntwo", 'x\\\\n"}']
    assert words_of("C:\\new\\table") == ["C:\\new\\table"]


@given(st.text(st.characters()))
def test_words_cover_exactly_what_is_not_space(text: str) -> None:
    words = split_words(text)
    inside = np.zeros(len(text), bool)
    end_before = 0
    for start, end in zip(words.starts.tolist(), words.ends.tolist(), strict=True):
        assert end_before <= start < end
        inside[start:end] = True
        end_before = end
    for covered, character in zip(inside.tolist(), text, strict=True):
        # A no-break space between digits is part of the number.
        assert covered != character.isspace() or character in "\xa0\u2009\u202f"


@given(st.text(st.characters()), st.text(st.characters()))
def test_the_same_text_gives_the_same_words_and_spaces_separate(first: str, second: str) -> None:
    assert words_of(first) == words_of(first)
    if "<" not in first and "\\" not in first + second:
        assert words_of(first + " \n " + second) == words_of(first) + words_of(second)


@pytest.mark.parametrize(
    "unit", ["a", " ", "中", "<", "<a ", "://", "ก้", "\u0301", "\x00", "\ud800", "a,", "{\\n"]
)
def test_a_million_of_one_unit_takes_linear_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    split_words(text)
    assert time.process_time() - began < 1.0  # some 0.05 s here; quadratic would take minutes


def test_three_megabytes_a_second() -> None:
    text = "The quick brown fox jumps over the lazy dog, at 10.5 km/h. " * 20_000
    began = time.process_time()
    split_words(text)
    assert len(text) / (time.process_time() - began) > 3e6
