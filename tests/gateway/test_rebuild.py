from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.turns import giving_way
from gateway.chat import rebuild as rebuilding
from gateway.chat.conversation import Path
from gateway.chat.rebuild import rebuild_body, replaced, string_at
from gateway.chat.request import parse_request
from gateway.shapes import ParsedRequest

PATH = ("messages", 0, "content")


def request_of(body: bytes) -> ParsedRequest:
    return parse_request("chat", "/v1/chat/completions", body)


def chat_bytes(content: str, **options: Any) -> bytes:
    raw = {"temperature": 1.0, "model": "m", "messages": [{"role": "user", "content": content}]}
    return json.dumps(raw, **options).encode()


def test_without_a_change_the_very_bytes_come_back() -> None:
    body = chat_bytes("Hallo Welt", indent=3)
    request = request_of(body)
    assert rebuild_body(request, {}) is request.body
    assert rebuild_body(request, {PATH: "Hallo Welt"}) is request.body


@pytest.mark.parametrize("options", [{}, {"ensure_ascii": False}, {"indent": 2}, {"separators": (",", ":")}])
def test_only_the_string_changes(options: dict[str, Any]) -> None:
    text, short = 'Grüße "aus" 東京\n\t\\ und ☃ 😀', "Grüße 東京 😀"
    body = chat_bytes(text, **options)
    rebuilt = rebuild_body(request_of(body), {PATH: short})
    assert rebuilt == chat_bytes(short, **options)


def test_numbers_and_duplicate_spaces_and_key_order_survive() -> None:
    body = b'{ "seed":1e2,  "model":"m","top_p":0.10, "messages":[ {"content":"a b c", "role":"user"} ]}'
    assert rebuild_body(request_of(body), {PATH: "a c"}) == body.replace(b"a b c", b"a c")


def test_strings_as_go_writes_them() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"\\u003cb\\u003e one two \\u0026 three"}]}'
    rebuilt = rebuild_body(request_of(body), {PATH: "<b> two & three"})
    assert rebuilt == body.replace(b" one two", b" two")


def test_of_equal_strings_the_right_one_changes() -> None:
    turns = [{"role": "user", "content": "the same words"} for _ in range(3)]
    body = json.dumps({"user": "the same words", "model": "m", "messages": turns}).encode()
    sent = orjson.loads(rebuild_body(request_of(body), {("messages", 1, "content"): "same words"}))
    assert [turn["content"] for turn in sent["messages"]] == [
        "the same words",
        "same words",
        "the same words",
    ]
    assert sent["user"] == "the same words"


def test_an_escape_that_nobody_writes_leads_to_a_new_body_of_equal_meaning() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"\\u0061 b c"}],"n":1.50}'
    rebuilt = rebuild_body(request_of(body), {PATH: "a c"})
    assert orjson.loads(rebuilt) == {"model": "m", "messages": [{"role": "user", "content": "a c"}], "n": 1.5}


def test_duplicate_keys_are_rebuilt_as_they_are_read() -> None:
    messages = b'"messages":[{"role":"user","content":"one two"}]'
    body = b'{"model":"m",' + messages + b"," + messages + b"}"
    sent = orjson.loads(rebuild_body(request_of(body), {PATH: "two"}))
    assert sent["messages"][0]["content"] == "two"


def test_an_unpaired_surrogate_is_refused_when_it_would_be_written_anew() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"\\ud800 \\u0061"}]}'
    with pytest.raises(ValueError, match="cannot be written"):
        rebuild_body(request_of(body), {PATH: "\ud800"})


def test_replaced_shares_what_did_not_change() -> None:
    raw = {"a": [{"b": "x"}, {"b": "y"}], "c": {"d": 1}}
    new = replaced(raw, {("a", 1, "b"): "z"})
    assert new == {"a": [{"b": "x"}, {"b": "z"}], "c": {"d": 1}}
    assert raw["a"][1] == {"b": "y"}  # type: ignore[index]
    assert new["a"][0] is raw["a"][0]  # type: ignore[index]


@pytest.mark.parametrize("path", [("x",), ("messages", 3), ("messages",), ("messages", 0, "role", 0, 0)])
def test_no_string_there(path: tuple[str | int, ...]) -> None:
    with pytest.raises((LookupError, TypeError)):
        string_at({"messages": [{"role": "user"}]}, path)


@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=8),
    st.data(),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_any_text_any_layout(
    contents: list[str], data: st.DataObject, ascii_only: bool, indent: int | None
) -> None:
    raw = {"model": "m", "messages": [{"role": "user", "content": text} for text in contents]}
    body = json.dumps(raw, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    chosen = data.draw(st.sets(st.integers(0, len(contents) - 1)))
    changes = {("messages", index, "content"): data.draw(st.text(max_size=10)) for index in chosen}
    wanted = replaced(raw, changes) if changes else raw
    rebuilt = rebuild_body(request_of(body), changes)
    assert orjson.loads(rebuilt) == wanted


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=8, unique=True), st.text(min_size=1), st.booleans()
)
def test_long_texts_and_lists_are_written_and_compared_in_pieces(
    texts: list[str], new: str, ascii_only: bool
) -> None:
    raw = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
    request = request_of(json.dumps(raw, ensure_ascii=ascii_only).encode())
    changes = {("messages", n, "content"): new for n in range(0, len(texts), 2)}
    whole = rebuild_body(request, changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "_PIECE", 3)
        patch.setattr(rebuilding, "_STEP", 2)
        assert rebuild_body(request, changes) == whole
    assert orjson.loads(whole) == replaced(request.raw, changes)


SOME = st.text(st.sampled_from('ab"\\\n<&\u00e9\u2028\U0001f600'), max_size=12)


def test_the_pieces_of_a_long_body_are_let_go_of_while_others_have_their_turn() -> None:
    messages = [{"role": "user", "content": f"{number} and so on"} for number in range(500)]
    request = request_of(json.dumps({"model": "m", "messages": messages}).encode())
    turns: list[None] = []
    with giving_way(lambda: turns.append(None)):
        body = rebuild_body(request, {("messages", number, "content"): f"{number}" for number in range(500)})
    assert [message["content"] for message in orjson.loads(body)["messages"]] == list(map(str, range(500)))
    assert len(turns) >= 1000 / 50


def as_go(value: Any) -> bytes:
    written = json.dumps(value, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return written.encode()


@pytest.mark.parametrize("write", [orjson.dumps, lambda value: json.dumps(value).encode(), as_go])
@given(
    texts=st.lists(SOME, min_size=1, max_size=4), short=st.lists(SOME, min_size=4, max_size=4), data=st.data()
)
def test_guessed_places_and_kept_texts_give_the_same_bytes(
    write: Callable[[Any], bytes], texts: list[str], short: list[str], data: st.DataObject
) -> None:
    body = write({"model": "m", "messages": [{"role": "user", "content": text} for text in texts]})
    places = data.draw(st.sets(st.integers(0, len(texts) - 1)))
    changes: dict[Path, str] = {("messages", at, "content"): short[at] for at in places}
    expected = rebuild_body(request_of(body), changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "_LONG", 1)
        patch.setattr(rebuilding, "_KEPT", 1)
        patch.setattr(rebuilding, "_BEGINNING", data.draw(st.integers(1, 3)))
        patch.setattr(rebuilding, "_written_texts", rebuilding._WrittenTexts())
        for _ in range(2):
            built, read = rebuilding.rebuild(request_of(body), changes)
            assert built == expected
            assert read == orjson.loads(expected)


def test_a_place_that_was_guessed_wrong_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_LONG", 1)
    monkeypatch.setattr(rebuilding, "_BEGINNING", 1)
    # What stands first begins and ends like the string, and is longer.
    body = b'{"model": "m", "user": "a, or not a", "messages": [{"role": "user", "content": "a whole a"}]}'
    guessed = rebuilding._guess(body, "a whole a", orjson.dumps, 0)
    assert guessed is not None and body[slice(*guessed)] == b'"a, or not a"'
    rebuilt = rebuild_body(request_of(body), {PATH: "a"})
    assert rebuilt == body.replace(b"a whole a", b"a")


def test_texts_are_kept_as_they_are_written_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "_KEPT", 10)
    monkeypatch.setattr(rebuilding, "_KEPT_BYTES", 100)
    written, kept = 0, rebuilding._WrittenTexts()

    def write(text: str) -> bytes:
        nonlocal written
        written += 1
        return orjson.dumps(text)

    texts = [str(n) * 20 for n in range(6)]
    for text in texts:
        assert kept.of(text, write) == kept.of(text, write) == orjson.dumps(text)
    assert written == 6
    kept.of(texts[-1], write)
    assert written == 6
    kept.of(texts[0], write)  # pushed out by the later ones
    assert written == 7
    assert kept.of("short", write) is None and kept.of("too long" * 10, write) is None
    assert kept.of("\ud800" * 12, lambda text: b'"another"') is None  # reads as another text


@given(st.lists(st.integers(0, 1), max_size=6), st.lists(st.integers(0, 1), max_size=6))
def test_comparing_in_steps_is_comparing(one: list[int], other: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuilding, "_STEP", 2)
        assert rebuilding._equal({"a": one}, {"a": other}) is (one == other)
        assert not rebuilding._equal({"a": one}, {"b": one})
        assert not rebuilding._equal({"a": one}, one)
