"""Builders of request bodies, so that a test shows only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

SENTENCES = (
    "The committee met again on Tuesday and went through the open points of the previous protocol.",
    "Nobody objected when the chair proposed to move the budget discussion to the following week.",
    "Invoice 4711 of 12,500.75 EUR was approved, and the delivery is due on 2026-03-14 in Rotterdam.",
    "After a rather long and winding debate about the colour of the new front door, blue was chosen.",
    "The report can be found at https://example.org/reports/q3.pdf, under the name of the project.",
    "She explained once more that the old machine does not work with the new cable, however often one tries.",
)


def long_text(sentences: int = 120) -> str:
    """English prose, about 20 tokens a sentence, the same at every call."""
    return " ".join(f"({n}) {SENTENCES[n % len(SENTENCES)]}" for n in range(sentences))


def chat(content: Any = "Hello, who are you?", *, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def conversation(
    turns: Sequence[tuple[str, Any]], *, model: str = "gpt-4o-mini", **more: Any
) -> dict[str, Any]:
    """A chat request from (role, content) pairs."""
    return {"model": model, "messages": [{"role": role, "content": c} for role, c in turns], **more}


def rag(question: str = "When is the delivery due?", *, sentences: int = 120, **more: Any) -> dict[str, Any]:
    """A system line, a long pasted document with the question below it."""
    return conversation(
        [("system", "Answer from the document only."), ("user", f"{long_text(sentences)}\n\n{question}")],
        **more,
    )


def body(value: dict[str, Any]) -> bytes:
    """The JSON bytes as a client that prints spaces would send them, so that a re-encoding would show."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
