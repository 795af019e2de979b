from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.chat.validation import find_damage, part_of_json, same_json
from tests.support.shortening import agent_turn, parsed

RAW = {
    "model": "m",
    "messages": [{"role": "user", "content": "one two"}, *agent_turn(1, '{"a": "long text", "b": [1]}')],
}
PATH = ("messages", 2, "content")
SHORT = '{"a": "text", "b": [1]}'


def sent(**changes: Any) -> dict[str, Any]:
    """The request with the tool's result shortened, and one more thing changed: path as a__b__1 -> value."""
    raw = orjson.loads(orjson.dumps(RAW))
    raw["messages"][2]["content"] = SHORT
    for name, value in changes.items():
        holder, steps = raw, [int(step) if step.isdigit() else step for step in name.split("__")]
        for step in steps[:-1]:
            holder = holder[step]
        holder[steps[-1]] = value
    return raw


def damage(body: Any, short: str = SHORT) -> str:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return find_damage(parsed(RAW), data, {PATH: short})


def test_what_was_meant_is_fine() -> None:
    assert damage(sent()) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages__2__tool_call_id": "call_2"}, "invalid-structure"),
        ({"messages__1__tool_calls__0__id": "x"}, "invalid-structure"),
        ({"messages__0__content": "one"}, "invalid-structure"),
        ({"messages__2__role": "user"}, "invalid-structure"),
        ({"extra": 1}, "invalid-structure"),
        ({"model": "n"}, "invalid-structure"),
        ({"messages__2__content": ["text"]}, "invalid-structure"),
        ({"messages__2__content": '{"a": "other", "b": [1]}'}, "invalid-text"),
        ({"messages": []}, "invalid-structure"),
    ],
)
def test_any_other_change_is_found(change: dict[str, Any], reason: str) -> None:
    assert damage(sent(**change)) == reason


@pytest.mark.parametrize("short", ['{"a": "text", "b": [1]', '{"a": "text"}', '{"a": 5, "b": [1]}', "text"])
def test_json_must_stay_json(short: str) -> None:
    body = sent(messages__2__content=short)
    assert damage(body, short) == "invalid-json"


def test_nothing_may_become_empty() -> None:
    assert damage(sent(messages__2__content=" "), " ") == "invalid-text"


def test_broken_bytes() -> None:
    assert damage(b'{"model"') == "invalid-json"


def test_same_json() -> None:
    assert same_json("no json", "json")
    assert same_json("{not json", "{not")
    assert same_json('[{"k": "a b", "n": null}]', '[{"k": "b", "n": null}]')
    assert not same_json("[1, 2]", "[1]")
    assert not same_json('{"n": 1}', '{"n": 1.0}')
    assert not same_json('{"n": true}', '{"n": 1}')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1, "b": 2}', '{"a": 2}'),
        ('{"a": 1}', '{"b": 1}'),
        ("[1, 2, 3]", "[3, 1]"),
        ("[1, 2]", "[1, 1]"),
        ('{"a": [1]}', '{"a": {}}'),
        ("[true]", "[1]"),
        ('{"a": 1}', '{"a": 1'),
    ],
)
def test_what_is_no_part_is_seen(before: str, after: str) -> None:
    assert not part_of_json(before, after)


def test_an_old_result_may_lose_members_where_another_may_not() -> None:
    body = orjson.dumps(sent(messages__2__content='{"a": "text"}'))
    changes = {PATH: '{"a": "text"}'}
    request = parsed(RAW)
    assert find_damage(request, body, changes) == "invalid-json"
    assert find_damage(request, body, changes, aged={PATH}) == ""
    other = orjson.dumps(sent(messages__2__content='{"c": "text"}'))
    assert find_damage(request, other, {PATH: '{"c": "text"}'}, aged={PATH}) == "invalid-json"
