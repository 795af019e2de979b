"""Each kind's treatment: what stays, what goes first, and that the result is still of its kind."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.errors import BudgetTooSmall
from compressor.shapes import Shortened
from compressor.text.choice import Passage, shorten_passages
from compressor.text.code_text import check_code, comment_lines
from compressor.text.html_text import check_html
from compressor.text.json_text import check_json
from compressor.text.line_text import check_diff
from compressor.text.tokens import counter_for
from compressor.text.words import split_words
from tests.compressor.test_kinds import DIFF, HTML, JAVA_TRACE

COUNTER = counter_for("o200k_base")
SENTENCE = (
    "The committee discussed at great length whether the old bridge should be repaired or replaced entirely"
)


def shorten(text: str, share: float, kind: str, seed: int = 0, **options: Any) -> Shortened:
    """To this share of the tokens, or as near as what must stay allows."""
    scores = np.random.default_rng(seed).integers(0, 256, len(split_words(text))).astype(np.uint8)
    passage = Passage(text, scores, kind=kind, **options)
    target = int(COUNTER.count(text) * share)
    try:
        return shorten_passages([passage], target, COUNTER)[0]
    except BudgetTooSmall as error:
        return shorten_passages([passage], target + error.short_by, COUNTER)[0]


_JSON_WORDS = st.sampled_from([*SENTENCE.split(), "a\nb", 'q"q', "日本", "\\", "tab\t", "12"])
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.lists(
            st.sampled_from([*SENTENCE.split(), "a\nb", 'q"q', "日本", "\\", "tab\t", "12"]),
            min_size=20,
            max_size=40,
        ).map(" ".join),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_json_parses_and_keeps_its_structure(
    value: dict[str, Any], plain: bool, indent: int, seed: int
) -> None:
    text = json.dumps(value, ensure_ascii=plain, indent=indent or None)
    shortened = shorten(text, 0.5, "json", seed)
    assert shortened.note == ""
    _assert_same_but_for_long_strings(value, json.loads(shortened.text))
    outside = re.compile(r'"(?:[^"\\]|\\.)*"')
    assert outside.sub('""', shortened.text) == outside.sub('""', text)  # formatting byte by byte


def _assert_same_but_for_long_strings(before: Any, after: Any) -> None:
    assert type(before) is type(after)
    if isinstance(before, dict):
        assert list(before) == list(after)
        for key, inner in before.items():
            _assert_same_but_for_long_strings(inner, after[key])
    elif isinstance(before, list):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            _assert_same_but_for_long_strings(one, other)
    elif isinstance(before, str) and len(before) >= 80:
        signs = iter(before)
        assert all(sign in signs for sign in after)  # slices of it, in order
    else:
        assert before == after


def test_json_shortens_long_strings_only() -> None:
    record = {
        "id": 17,
        "status": "in progress since yesterday",
        "body": f"{SENTENCE}.\n" * 10,
        "tags": ["a", "b"],
    }
    text = json.dumps(record, indent=2)
    shortened = shorten(text, 0.5, "json", protect=frozenset())
    after = json.loads(shortened.text)
    assert {key: after[key] for key in ("id", "status", "tags")} == {
        key: record[key] for key in ("id", "status", "tags")
    }
    assert len(after["body"]) < 0.7 * len(record["body"])
    assert shortened.tokens_after <= 0.5 * shortened.tokens_before


def test_a_short_string_stays_however_long_its_escapes_make_it() -> None:
    record = {"title": "في مكان قريب في أوغرود ساسكي كان المس", "body": "في مكان قريب " * 40}
    text = json.dumps(record)  # six characters a letter
    after = json.loads(shorten(text, 0.5, "json", protect=frozenset()).text)
    assert after["title"] == record["title"] and len(after["body"]) < len(record["body"])


def test_json_lines_and_code_inside_json() -> None:
    code = inspect.getsource(textwrap.dedent)
    lines = "\n".join(json.dumps({"i": i, "text": f"{SENTENCE} {i}. " * 5, "code": code}) for i in range(4))
    shortened = shorten(lines, 0.6, "json")
    rows = [json.loads(line) for line in shortened.text.splitlines()]
    assert [row["i"] for row in rows] == [0, 1, 2, 3]
    assert all(row["code"] == code for row in rows)
    assert len(shortened.text) < len(lines)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ('{"a": 1', "would not parse"),
        ('{"b": 1, "c": "x"}', "keys would change"),
        ('{"a": 2, "c": "x"}', "number would change"),
        ('{"a": "1", "c": "x"}', "change their type"),
        ('{"a": 1, "c": "y"}', "short JSON string"),
        ('{"a": 1}', "keys would change"),
    ],
)
def test_the_check_of_json_sees(after: str, reason: str) -> None:
    assert reason in check_json('{"a": 1, "c": "x"}', after)


def test_json_that_was_cut_off_keeps_all_but_the_insides_of_long_strings() -> None:
    text = json.dumps([{"id": i, "text": f"{SENTENCE} {i}. " * 3, "n": i / 7} for i in range(5)], indent=1)[
        :-90
    ]
    shortened = shorten(text, 0.6, "json", protect=frozenset())
    assert shortened.note == ""
    assert shortened.tokens_after < 0.7 * shortened.tokens_before
    strings = re.compile(r'"(?:[^"\\]|\\.)*"')
    assert strings.sub('""', shortened.text) == strings.sub('""', text)
    assert "structure" in check_json('{"a": 1, "b": ', '{"a": 2, "b": ')


def log_of(count: int) -> str:
    lines = [
        f"2024-03-05 10:{i // 60:02d}:{i % 60:02d} INFO  request {i} served by node-{i % 7} in {i % 90} ms"
        for i in range(count)
    ]
    lines[count // 2] = "2024-03-05 10:01:30 ERROR  database connection refused: 10.0.0.7:5432"
    lines[count // 3] = "2024-03-05 10:01:10 WARN   queue is at 91 %"
    lines[count // 4] = "2024-03-05 10:01:05 INFO  configuration reloaded from /etc/app.yaml"
    return "\n".join(lines) + "\n"


def test_logs_keep_trouble_both_ends_and_what_is_new() -> None:
    text = log_of(200)
    shortened = shorten(text, 0.2, "log")
    kept, lines = shortened.text.splitlines(), text.splitlines()
    assert set(kept) <= set(lines)  # whole lines only
    assert kept[:3] == lines[:3]
    assert kept[-1] == lines[-1]
    assert sum("ERROR" in line or "WARN" in line for line in kept) == 2
    assert any("configuration reloaded" in line for line in kept)  # repeats go before it
    assert shortened.tokens_after <= 0.2 * shortened.tokens_before


def test_folded_logs_keep_every_event_by_what_is_new_in_it() -> None:
    text = log_of(200)
    shortened = shorten(text, 0.9, "log", fold=True)
    lines, kept = text.splitlines(), shortened.text.splitlines()
    assert len(kept) == len(lines)
    pattern = next(line for line in lines if "request" in line)
    assert pattern in kept
    assert "2024-03-05 10:03:19 INFO  request 199 served by node-3 in 19 ms" in kept  # an end stays whole
    assert "10:02:30 150 node-3 60" in " ".join(kept[150].split()) or "request" in kept[150]
    for number, line in enumerate(lines):  # each figure that the pattern has not got
        new = {word for word in line.split() if re.search(r"\d", word)} - set(pattern.split())
        assert new <= set(kept[number].split()), kept[number]
    assert shortened.tokens_after < 0.75 * shortened.tokens_before
    assert shorten(text, 1.0, "log", fold=True).text == text


def test_lines_of_trouble_in_what_a_tool_said_stay_whole() -> None:
    told = "\n".join(f"{SENTENCE} {i}." for i in range(12))
    text = f"{told}\nValueError: bad row 17 of the second upload\n{told}\nexit code 3 was returned\n{told}"
    shortened = shorten(text, 0.3, "prose", fold=True, protect=frozenset())
    assert "\nValueError: bad row 17 of the second upload\n" in shortened.text
    assert "\nexit code 3 was returned\n" in shortened.text
    about = "\n".join(f"An error {i} is a failure that nobody has yet given a name to." for i in range(30))
    assert shorten(about, 0.3, "prose", fold=True, protect=frozenset()).tokens_after <= 0.3 * COUNTER.count(
        about
    )


def test_folding_prefers_patterns_and_stays_within_the_budget() -> None:
    text = log_of(200)
    plain, folded = shorten(text, 0.3, "log"), shorten(text, 0.3, "log", fold=True)
    assert folded.tokens_after <= 0.3 * folded.tokens_before
    figures = re.compile(r"request (\d+) |^\S+ (\d+) ", re.MULTILINE)
    assert len(folded.text.splitlines()) > 1.3 * len(plain.text.splitlines())
    assert figures.search(folded.text)
    assert "ERROR  database connection refused" in folded.text


@given(
    st.lists(st.sampled_from(["a 1 b", "a 2 b", "c d", "c d", "x9 y", "", "a 1"]), min_size=1, max_size=30)
)
def test_folded_text_is_slices_of_the_original(lines: list[str]) -> None:
    text = "\n".join(f"10:00:{i % 60:02d} {line}" for i, line in enumerate(lines))
    shortened = shorten(text, 0.6, "log", fold=True)
    assert "".join(text[span.start : span.end] for span in shortened.kept) == shortened.text


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1), st.integers(0, 3), st.integers(0, 9))
def test_folded_json_loses_its_layout_and_nothing_else(value: dict[str, Any], indent: int, seed: int) -> None:
    text = json.dumps(value, indent=indent or None)
    shortened = shorten(text, 0.5, "json", seed, fold=True)
    assert shortened.note == ""
    _assert_same_but_for_long_strings(value, json.loads(shortened.text))
    assert "".join(text[span.start : span.end] for span in shortened.kept) == shortened.text
    if indent and len(text) > 60:
        assert "\n" not in shortened.text or shortened.text == text


def test_folded_json_lines_and_fragments_keep_their_lines() -> None:
    lines = "\n".join(json.dumps({"i": i, "name": "x" * 9, "tags": [1, 2, 3]}) for i in range(30))
    shortened = shorten(lines, 0.5, "json", fold=True)
    assert [json.loads(line) for line in shortened.text.splitlines()] == [
        json.loads(line) for line in lines.splitlines()
    ]
    assert len(shortened.text) < len(lines)
    cut = json.dumps([{"id": i, "at": {"x": 1}} for i in range(30)], indent=2)[:-40]
    assert shorten(cut, 0.5, "json", fold=True).text == "".join(cut.split())


def test_an_error_that_repeats_a_thousand_times_does_not_fill_the_budget() -> None:
    text = "\n".join(f"2024-03-05 10:00:00 ERROR timeout after {i} ms" for i in range(1000))
    assert shorten(text, 0.1, "log").tokens_after <= 0.1 * COUNTER.count(text)


def test_diffs_keep_every_changed_line() -> None:
    context = "".join(f" unchanged line number {i} of the file\n" for i in range(60))
    text = DIFF + context + "@@ -80,3 +80,3 @@\n last\n-gone()\n+here()\n" + context
    shortened = shorten(text, 0.3, "diff")
    assert [line for line in shortened.text.splitlines() if line[:1] in "+-@"] == [
        line for line in text.splitlines() if line[:1] in "+-@"
    ]
    assert shortened.tokens_after < 0.4 * shortened.tokens_before
    assert check_diff(text, text.replace("+here()\n", "")) != ""


def test_stack_traces_keep_the_message_and_both_ends() -> None:
    shortened = shorten(JAVA_TRACE, 0.4, "stack-trace")
    assert shortened.text.startswith("java.lang.IllegalStateException: boom\n")
    assert "bar0(Foo.java:0)" in shortened.text
    assert shortened.text.rstrip().endswith("bar19(Foo.java:19)")
    assert set(shortened.text.splitlines()) <= set(JAVA_TRACE.splitlines())


@pytest.mark.parametrize("module", [textwrap, json.decoder, inspect])
def test_python_means_the_same_without_its_comments(module: Any) -> None:
    text = inspect.getsource(module)
    shortened = shorten(text, 0.1, "code")
    assert shortened.note == ""
    assert ast.dump(ast.parse(shortened.text)) == ast.dump(ast.parse(text))
    assert shortened.tokens_after < shortened.tokens_before


def test_comments_in_strings_and_instructions_to_tools_stay() -> None:
    text = textwrap.dedent(
        '''\
        #!/usr/bin/env python
        # gone
        import os  # stays: it shares its line
        # type: ignore
        query = """
        # not a comment
        """
        name = "# nor this"
        '''
    )
    assert [text[start:end] for start, end in comment_lines(text)] == ["# gone"]
    javascript = "// gone\nconst url = 'http://x';\nconst t = `\n// no\n`;\n/* two\nlines */\n"
    javascript += "// eslint-disable\nlet a = 1;\n"
    assert [javascript[start:end] for start, end in comment_lines(javascript)] == ["// gone"]
    shell = "import x\n# a\ncat <<EOF\n# not a comment\nEOF\n"
    assert list(comment_lines(shell)) == []


def test_the_check_of_code_sees_a_lost_line() -> None:
    assert check_code("import a\nx = 1\n", "import a\n") == "code would change"


def test_html_keeps_tags_headings_links_and_drops_scripts_first() -> None:
    page = HTML.replace("<p>", f"<script>var x = 1; // {SENTENCE}\n</script><!-- {SENTENCE} --><p>").replace(
        "</p>", f"{SENTENCE}. <a href='/x y'>The link text</a> {SENTENCE}.</p>" * 3
    )
    shortened = shorten(page, 0.6, "html", protect=frozenset({"tags"}))
    assert shortened.note == ""
    assert "var x" not in shortened.text
    assert "<!--" not in shortened.text
    assert "<h1>Hello</h1>" in shortened.text
    assert shortened.text.count("<a href='/x y'>The link text</a>") == 3
    for tag in ("html", "body", "p", "a", "script"):
        assert shortened.text.count(f"<{tag}") - shortened.text.count(f"</{tag}") == page.count(
            f"<{tag}"
        ) - page.count(f"</{tag}")
    assert check_html("<p>a</p>", "<p>a") == "HTML tags would change"


def test_markdown_keeps_headings_links_tables_and_fences() -> None:
    text = (
        f"# The title\n\n{SENTENCE}. {SENTENCE}.\n\n## Second\n\n"
        f"See [the docs](https://x.org/a) {SENTENCE}.\n\n"
        f"| a | b |\n|---|---|\n| {SENTENCE} | 2 |\n\n```py\nx = 1\n```\n\n- {SENTENCE}\n- {SENTENCE}\n"
    )
    shortened = shorten(text, 0.5, "markdown")
    for piece in (
        "# The title",
        "## Second",
        "[the docs](https://x.org/a)",
        "| a | b |",
        "|---|---|",
        "```py\nx = 1\n```",
    ):
        assert piece in shortened.text
    assert shortened.tokens_after < 0.65 * shortened.tokens_before


def test_a_bullet_or_speaker_stays_with_its_line_only() -> None:
    text = "".join(f"Speaker {name}: {SENTENCE} {name}\n" for name in "ABCDEFGH")
    shortened = shorten(text, 0.3, "prose", protect=frozenset())
    lines = shortened.text.strip().splitlines()
    assert len(lines) < 8
    assert all(re.match(r"Speaker [A-H]: \w+", line) for line in lines)


def test_base64_and_tables_without_text_stay_whole() -> None:
    csv = "name,age,city\n" + "Anna,31,Paris\n" * 20
    assert shorten(csv, 0.5, "table").text == csv
    blob = "QUJDREVGR0hJSktMTU5PUA" * 20
    assert shorten(blob, 0.5, "base64").text == blob


@pytest.mark.parametrize("kind", ["code", "html", "json", "markdown", "log", "diff", "stack-trace"])
@pytest.mark.parametrize(
    "unit", ["<!--", "<a>", "<script>", "/*", '"', "'''", "`", "[", "[a](", "#\n", "+\n", " at f (\n", "{"]
)
def test_linear_time_on_hostile_text(kind: str, unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    shorten(text, 0.5, kind, protect=frozenset())
    assert time.process_time() - began < 6  # well under a second alone
