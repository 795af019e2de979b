"""Tool calls and JSON agree or do not; prose agrees by meaning and by its numbers."""

from __future__ import annotations

import pytest

from compressor.engine.fake import FakeEngine
from compressor.errors import Overloaded
from gateway.quality.comparison import Agreement, compare
from gateway.quality.replies import Said


async def of(left: str | Said, right: str | Said, **more: object) -> Agreement | None:
    engine = more.pop("engine", None) or FakeEngine()
    first, second = (each if isinstance(each, Said) else Said(each) for each in (left, right))
    return await compare(first, second, engine, **more)  # type: ignore[arg-type]


async def test_tool_calls_are_exact_but_for_their_order() -> None:
    one, other = ("a", '{"x":1}'), ("b", "{}")
    assert await of(Said("", (one, other)), Said("well", (other, one))) == Agreement("tool-calls", 1.0)
    assert await of(Said("", (one,)), Said("", (("a", '{"x":2}'),))) == Agreement("tool-calls", 0.0)
    assert await of(Said("", (one,)), Said("I cannot do that")) == Agreement("tool-calls", 0.0)


async def test_json_is_exact_but_for_spacing_and_fences() -> None:
    assert await of('{"a": 1, "b": [2]}', '```json\n{"b":[2],"a":1}\n```') == Agreement("json", 1.0)
    assert await of('{"a": 1}', '{"a": 2}') == Agreement("json", 0.0)
    assert await of('{"a": 1}', "The answer is 1.") == Agreement("json", 0.0)


async def test_prose() -> None:
    same = await of("The delivery is due on Tuesday.", "The delivery is due on Tuesday. ")
    near = await of("The delivery is due on Tuesday.", "The delivery is due on Wednesday.")
    far = await of("The delivery is due on Tuesday.", "Blue was chosen for a door.")
    assert same == Agreement("prose", 1.0)
    assert near is not None and far is not None
    assert 1 > near.score > far.score >= 0
    assert await of("Yes.", "") == Agreement("prose", 0.0)


async def test_other_numbers_are_another_answer() -> None:
    text = "Invoice 4711 of 12,500.75 EUR is due on 2026-03-14 in the harbour of Rotterdam."
    right = await of(text, text.replace("Invoice", "The invoice"))
    wrong = await of(text, text.replace("Invoice", "The invoice").replace("12,500.75", "12,500.57"))
    assert right is not None and wrong is not None
    assert right.score - wrong.score >= 0.2


async def test_a_judge_decides_prose_where_it_has_a_verdict() -> None:
    asked: list[tuple[str, str, str]] = []

    async def judge(question: str, left: str, right: str) -> float | None:
        asked.append((question, left, right))
        return 0.7

    async def silent(question: str, left: str, right: str) -> float | None:
        return None

    assert await of("a b", "a c", judge=judge, question="why?") == Agreement("judged", 0.7)
    assert asked == [("why?", "a b", "a c")]
    assert await of('{"a":1}', '{"a":1}', judge=judge) == Agreement("json", 1.0)
    unjudged = await of("a b", "a c", judge=silent)
    assert unjudged is not None and unjudged.kind == "prose"


async def test_without_the_encoder_nothing_is_said() -> None:
    assert await of("a b", "a c", engine=FakeEngine(error=Overloaded("full"))) is None


@pytest.mark.parametrize("text", ["[1, 2", "{not json}", "```json\n{\n```"])
async def test_broken_json_is_prose(text: str) -> None:
    found = await of(text, text + " x")
    assert found is not None and found.kind == "prose"
