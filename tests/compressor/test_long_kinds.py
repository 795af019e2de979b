"""What is found in texts of each kind piece by piece is what one search over the whole would find."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import code_text, html_text, line_text, markup, searching, tallies, words
from compressor.text.characters import Char
from compressor.text.code_text import check_code, comment_lines
from compressor.text.html_text import check_html, html_parts
from compressor.text.kinds import CODE_LINE
from compressor.text.line_text import check_diff, fold_lines, log_lines, trace_lines
from compressor.text.markup import code_spans, table_spans
from compressor.text.protection import mark_spans
from compressor.text.rendering import _sticks
from compressor.text.structures import treat
from compressor.text.units import split_units
from compressor.text.words import TAG, split_words

Place = tuple[int, int]
STEPS = pytest.mark.parametrize("step", [1, 5, 1000])


@pytest.fixture(autouse=True)
def _small_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    step = request.node.callspec.params.get("step", 1000) if hasattr(request.node, "callspec") else 1000
    monkeypatch.setattr(searching, "_AHEAD", 16)
    block = markup._INDENTED.pattern.replace("{0,50}", f"{{0,{step // 3}}}")
    monkeypatch.setattr(markup, "_INDENTED", re.compile(block, re.MULTILINE))
    for module, names in (
        (searching, ("_STEP", "_SCAN")),
        (tallies, ("_STEP", "_READ")),
        (words, ("_AT_ONCE",)),
        (html_text, ("_STEP", "_FEW")),
        (code_text, ("_NEAR",)),
        (line_text, ("_LONG_LINE", "_FEW_WORDS")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, step)


def _made_of(*parts: str, most: int = 30) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(parts), max_size=most).map("".join)


QUOTED = "|".join(
    (
        r'"""(?:\\.|[^\\])*?(?:"""|\Z)',
        r"\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)",
        r'"(?:\\.|[^"\\\n])*"',
        r"'(?:\\.|[^'\\\n])*'",
        r"`(?:\\.|[^`\\])*(?:`|\Z)",
    )
)
COMMENTS = {
    "#": re.compile(rf"(?s:{QUOTED})|(?P<comment>#[^\n]*)"),
    "//": re.compile(rf"(?s:{QUOTED})|(?P<comment>//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"),
    "--": re.compile(rf"(?s:{QUOTED})|(?P<comment>--[^\n]*)"),
}
CODE = _made_of('"', '"""', "'", "'''", "`", "\\", "\n", " ", "a", "#", "//", "/*", "*/", "--", "type:", "\r")


def _expected_comments(text: str, pattern: re.Pattern[str]) -> Iterator[Place]:
    for found in pattern.finditer(text):
        if found["comment"] is None or code_text._PRAGMA.match(found.group()):
            continue
        start, end = found.span()
        before = text[text.rfind("\n", 0, start) + 1 : start]
        behind = text[end:].partition("\n")[0]
        if not before.strip() and not behind.strip() and "\n" not in found.group():
            yield start, end


def _expected_code(text: str, pattern: re.Pattern[str]) -> list[str]:
    dropped = {text.count("\n", 0, start) for start, _ in _expected_comments(text, pattern)}
    lines = enumerate(text.split("\n"))
    return [line.rstrip() for index, line in lines if line.strip() and index not in dropped]


@STEPS
@pytest.mark.parametrize("short", [0, 3, 1000])
@pytest.mark.parametrize("sign", ["#", "//", "--"])
@given(text=CODE, other=CODE)
def test_comments(step: int, short: int, sign: str, text: str, other: str) -> None:
    family = code_text._family_of(sign, "/*" if sign == "//" else "", short)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_text, "_family", lambda _text: family)
        assert list(comment_lines(text)) == list(_expected_comments(text, COMMENTS[sign]))
        assert list(code_text._code_lines(text)) == _expected_code(text, COMMENTS[sign])
        same = _expected_code(text, COMMENTS[sign]) == _expected_code(other, COMMENTS[sign])
        assert (check_code(text, other) == "") is same


@pytest.mark.parametrize("line", ['"\\"', "'\\'", "`\\`", '"""\\"""\\', "/* "])
def test_signs_that_open_nothing_cost_linear_time(line: str) -> None:
    text = "const a = 1;\n" * 20 + line * 40_000 + "\\"
    assert list(comment_lines(text)) is not None


HTML = _made_of(
    *(
        "<script>",
        "</script >",
        "<STYLE a>",
        "</style>",
        "<!--",
        "-->",
        "<a href='x'>",
        "</a>",
        "<h1>",
        "</h1>",
    ),
    *("<p>", "<", ">", "text", "\n", " ", "é"),
)
CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in html_text._CLOSING}


def _expected_noise(text: str) -> list[Place]:
    spans: list[Place] = []
    unclosed: set[str] = set()
    at = 0
    while (opening := html_text._OPENING.search(text, at)) is not None:
        name = (opening.group(1) or "").lower()
        at = opening.end()
        if name in unclosed:
            continue
        closing = CLOSING[name].search(text, at) if name else re.compile("-->").search(text, at)
        if closing is None:
            unclosed.add(name)
            continue
        spans.append((at, closing.start()) if name else (opening.start(), closing.end()))
        at = closing.end()
    return spans


def _expected_tags(text: str) -> list[str]:
    pieces, at = [], 0
    for start, end in _expected_noise(text):
        pieces.append(text[at:start])
        at = end
    return TAG.findall("".join([*pieces, text[at:]]))


@STEPS
@given(text=HTML, other=HTML)
def test_html(step: int, text: str, other: str) -> None:
    parts = html_parts(text)
    assert [tuple(span) for span in parts.noise.tolist()] == _expected_noise(text)
    assert [tuple(span) for span in parts.shown.tolist()] == [
        found.span() for found in html_text._KEPT.finditer(text)
    ]
    assert (check_html(text, other) == "") is (_expected_tags(text) == _expected_tags(other))


INDENTED = re.compile(r"^(?: {4,}|\t+)\S[^\n]*(?:\n+(?: {4,}|\t+)\S[^\n]*)*", re.MULTILINE)
FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,500}\1(?!`)")
TABLE_ROW = re.compile(r"^[ \t>]*\|[^\n]*\|[ \t]*$", re.MULTILINE)
TABLE_RULE = re.compile(r"^[ \t>|]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)+\|?[ \t]*$", re.MULTILINE)
MARKUP = _made_of(
    *(
        "\n",
        "\n\n",
        "    ",
        "\t",
        " ",
        "`",
        "``",
        "```",
        "~~~",
        "x = 1;",
        "words",
        "|",
        "---",
        "|--|--|",
        "\r",
    ),
    *("# ", "===", "[a](b)", "![", "[c]: d", "- ", "> ", "\x0b"),
)


def _expected_blocks(text: str) -> Iterator[Place]:
    for block in INDENTED.finditer(text):
        lines = [line for line in block.group().splitlines() if line.strip()]
        coded = sum(CODE_LINE.match(line) is not None or line.lstrip()[:1] in "$>{" for line in lines)
        if coded >= 0.5 * len(lines):
            yield block.span()
    opened = None
    for line in FENCE.finditer(text):
        mark = line[1]
        if opened is None:
            opened = line
        elif mark[0] == opened[1][0] and len(mark) >= len(opened[1]) and line.end(1) == line.end():
            yield opened.start(), line.end()
            opened = None
    if opened is not None:
        yield opened.start(), len(text)
    for code in INLINE_CODE.finditer(text):
        yield code.span()


@STEPS
@given(text=MARKUP)
def test_code_and_tables_in_prose(step: int, text: str) -> None:
    codes = split_words(text).codes
    assert sorted(code_spans(text, codes)) == sorted(_expected_blocks(text))
    rows = [row.span() for row in TABLE_ROW.finditer(text)]
    inside = sum(text.count("|", *row) for row in rows)
    headers = sum(
        row[0] > before + 1 for row, before in zip(rows, [-2, *(end for _, end in rows)], strict=False)
    )
    rules = [
        (text.rfind("\n", 0, max(0, rule.start() - 1)) + 1, rule.end()) for rule in TABLE_RULE.finditer(text)
    ]
    spans = [tuple(span) for span in table_spans(text, codes).tolist()]
    assert len(spans) == headers + inside + len(rules)
    assert spans[headers + inside :] == rules


HEADING = re.compile(r"^[ \t]*(?:#{1,6}[ \t][^\n]*|[^\n]+\n(?:={3,}|-{3,})[ \t]*$)", re.MULTILINE)
LINK = re.compile(
    r"!?\[[^\[\]\n]{0,500}\]\([^()\[\s]{0,2000}(?:[ \t]+\"[^\"\n]{0,200}\")?\)|^\[[^\[\]\n]+\]:[ \t]*\S+.*$",
    re.MULTILINE,
)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---[ \t]*$", re.DOTALL | re.MULTILINE)


@STEPS
@given(text=MARKUP, front=st.booleans())
def test_markdown(step: int, text: str, front: bool) -> None:
    text = f"---\n{text}" if front else text
    split = split_words(text)
    expected = np.zeros(len(split), np.uint8)
    for pattern in (HEADING, LINK, FRONT_MATTER):
        mark_spans(split, expected, [found.span() for found in pattern.finditer(text)], "structure")
    nothing = np.zeros(len(split), np.uint8)
    found = treat(split, split_units(split), nothing.astype(np.float32), nothing, "markdown")
    assert found.codes.tolist() == expected.tolist()


def _expected_trace(lines: list[str]) -> tuple[set[int], set[int]]:
    kept: set[int] = set()
    repeated: set[int] = set()
    seen: set[str] = set()
    run: list[int] = []
    for index, line in enumerate([*lines, ""]):
        if index < len(lines) and line_text._FRAME.match(line):
            run.append(index)
            if line in seen:
                repeated.add(index)
            seen.add(line)
            continue
        kept.update(run[:6], run[-6:])
        run = []
        if index < len(lines):
            kept.add(index)
    return kept, repeated - kept


TRACE = st.lists(st.sampled_from(["  at a", "  at b", "  at c", "Error", "said"]), min_size=1, max_size=40)


@STEPS
@given(lines=TRACE)
def test_stack_traces(step: int, lines: list[str]) -> None:
    kept, repeated = trace_lines(lines)
    assert (set(np.flatnonzero(kept)), set(np.flatnonzero(repeated))) == _expected_trace(lines)


@STEPS
@given(line=st.text(st.sampled_from("0123x abfgABF:٣"), max_size=60))
def test_numbers_of_a_long_line(step: int, line: str) -> None:
    assert line_text._form_of(line) == line_text._VARIABLE.sub("0", line)


@STEPS
@given(
    lines=st.lists(st.sampled_from(["error 1", "error 2", "ok 12", "ok 13", "0 errors", "a"]), max_size=30)
)
def test_logs(step: int, lines: list[str]) -> None:
    ends = {*range(min(3, len(lines))), *range(max(0, len(lines) - 3), len(lines))}
    forms = [line_text._VARIABLE.sub("0", line) for line in lines]
    times = [forms[:index].count(form) for index, form in enumerate(forms)]
    trouble = {index for index, line in enumerate(lines) if line.startswith("error") and times[index] < 2}
    kept, repeated = log_lines(lines)
    assert set(np.flatnonzero(kept)) == ends | trouble
    assert set(np.flatnonzero(repeated)) == {index for index, n in enumerate(times) if n} - trouble - ends


@STEPS
@given(
    lines=st.lists(
        st.lists(st.sampled_from(["done", "job", "12", "13", "x7"]), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    )
)
def test_folded_lines(step: int, lines: list[list[str]]) -> None:
    split = split_words("\n".join(map(" ".join, lines)))
    firsts = np.cumsum([0, *map(len, lines)])[:-1]
    forms = [tuple("0" if re.search(r"\d", word) else word for word in line) for line in lines]
    pattern = [forms.index(form) for form in forms]
    folded = fold_lines(split, firsts)
    repeats = [index for index, first in enumerate(pattern) if first != index]
    assert np.flatnonzero(folded.repeats).tolist() == repeats
    assert np.flatnonzero(folded.patterns).tolist() == sorted({pattern[index] for index in repeats})
    gone = set(folded.gone.tolist())
    for index in repeats:
        line, first = lines[index], lines[pattern[index]]
        same = {int(firsts[index]) + at for at, word in enumerate(line) if word == first[at]}
        stays = same - gone
        assert len(stays) <= 1 and (len(same) < len(line) or len(stays) == 1)
        gone -= same
    assert not gone


def _changes(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line_text._CHANGED.match(line)]
    return [line.rstrip() for line in lines if line.strip()]


DIFF = _made_of("+", "-", " ", "\n", "a", "@@", "\r", "\x0c", most=12)


@STEPS
@given(text=DIFF, other=DIFF)
def test_diffs(step: int, text: str, other: str) -> None:
    assert (check_diff(text, other) == "") is (_changes(text) == _changes(other))


@STEPS
@given(text=st.text(st.sampled_from("ab1%é字ア.,-（😀\U00031400 \n"), max_size=30))
def test_letters_that_would_stick_together(step: int, text: str) -> None:
    split = split_words(text)
    spaced = np.isin(split.classes, (Char.OTHER, Char.DIGIT, Char.TRAIL))
    expected = [
        bool(is_spaced) and (sign.isalnum() or sign == "%")
        for is_spaced, sign in zip(spaced, text, strict=True)
    ]
    assert _sticks(split, np.arange(len(text), dtype=np.int32)).tolist() == expected


URL_REST = re.compile(
    r"(?:[!#$%&()*+,\-./0-9:;=?@A-Z\[\]_a-z~\u00c0-\u024f]"
    rf"|(?<=[/=_\-])[{words._CJK_LETTER}]+)+"
)


@STEPS
@given(text=st.text(st.sampled_from("://a-_=字ア é"), max_size=30))
def test_urls_end_where_they_did(step: int, text: str) -> None:
    def ends(pattern: re.Pattern[str]) -> list[int]:
        found = (pattern.match(text, at) for at in range(len(text)))
        return [-1 if one is None else one.end() for one in found]

    assert ends(words._URL_REST) == ends(URL_REST)
