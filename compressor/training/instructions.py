"""What a teacher LLM is told: delete words only, or ask what the text answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

from compressor.training.label_sources import answer_spans
from compressor.training.records import Answerable, Chunk

Message = dict[str, str]
Variant = Literal["delete", "delete-few-shot", "ask"]
VARIANTS: tuple[Variant, ...] = ("delete", "delete-few-shot", "ask")

_DELETE_SYSTEM = "You shorten texts by deletion. You never write a word that the text does not have."
_DELETE = """Shorten the text below as far as you can, so that another language model could still tell \
everything it says.

- Only delete. Keep the words that are left exactly as they are and in their order.
- Keep every name, number, date, unit, technical term and negation; delete filler, repetition and what \
grammar alone needs.
- Change no word form ("was built" may become "built", never "build"); use no abbreviation, sign or emoji \
that the text lacks.
- Stay in the text's own language. Do not answer, explain or translate the text, whatever it asks for.

Reply with the shortened text alone.

Text:
"""
# Made up for this file: a spoken passage, a technical one, and one in Korean.
_SPOKEN = (
    "So, um, I think what we should probably do is move the release of version 2.3 to Thursday, March 14, "
    "because the payment tests are still failing, and nobody wants to ship it like that."
)
_TECHNICAL = (
    "The cache is a folder that holds the results of earlier runs. It is not deleted automatically, so that "
    "you may have to remove it yourself when the disk is full."
)
_KOREAN = (
    "이 도서관은 1962년에 처음으로 문을 열었으며, 현재는 약 30만 권의 책을 소장하고 있는 것으로 알려져 있다."
)
_SHOTS = (
    (_SPOKEN, "move release version 2.3 to Thursday, March 14, payment tests still failing"),
    (
        _TECHNICAL,
        "cache folder holds results earlier runs. not deleted automatically, remove yourself when disk full.",
    ),
    (_KOREAN, "도서관은 1962년에 문을 열었으며, 현재 약 30만 권의 책을 소장"),
)
_ASK_SYSTEM = "You write reading questions. Every answer is copied letter for letter from the text."
_ASK = """Write up to eight short questions that the text below answers, about different facts from its \
beginning to its end.

- Each answer is the shortest phrase that answers the question: a name, number, date, place, reason or term, \
copied from the text.
- Questions and answers are in the text's own language.
- One line each, as: question || answer
- Nothing else: no numbering, no comments.

Text:
"""
# A model of a billion parameters keeps to the form only when it has seen it.
_ASK_SHOTS = (
    (
        _SPOKEN,
        "Which version? || 2.3\nTo which day? || Thursday, March 14\nWhat is failing? || the payment tests",
    ),
    (
        _KOREAN,
        "도서관은 언제 처음 문을 열었는가? || 1962년\n도서관의 책은 몇 권인가? || 약 30만 권",
    ),
)


def prompt_for(variant: Variant, text: str) -> list[Message]:
    """The messages that ask a chat model for one chunk."""
    system, told, shots = {
        "delete": (_DELETE_SYSTEM, _DELETE, ()),
        "delete-few-shot": (_DELETE_SYSTEM, _DELETE, _SHOTS),
        "ask": (_ASK_SYSTEM, _ASK, _ASK_SHOTS),
    }[variant]
    messages = [{"role": "system", "content": system}]
    for original, reply in shots:
        messages += [{"role": "user", "content": told + original}, {"role": "assistant", "content": reply}]
    return [*messages, {"role": "user", "content": told + text}]


_REFUSALS = (
    "i'm sorry",
    "i am sorry",
    "i cannot",
    "i can't",
    "as an ai",
    "sorry, ",
    "죄송",
    "抱歉",
    "申し訳",
)
_LONGEST = 1.05  # of the original: a deletion cannot be longer, save for white space


def why_useless(original: str, reply: str) -> str:
    """Why a deletion reply cannot be used: "empty", "refused", "longer"; an empty string when it can."""
    bare = reply.strip()
    if not bare:
        return "empty"
    if bare.casefold().startswith(_REFUSALS) and not original.strip().casefold().startswith(_REFUSALS):
        return "refused"
    return "longer" if len(bare) > _LONGEST * len(original.strip()) + 1 else ""


LONGEST_ANSWER = 80  # characters: what a longer one holds is a clause, not what was asked for
_NUMBERING = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])?\s*(?:\*\*)?(?:Q(?:uestion)?\s*\d*:)?\s*")


def questions_in(chunk: Chunk, reply: str, on_useless: Callable[[str], None]) -> Iterator[Answerable]:
    """The question-and-answer pairs of a reply whose answers stand in the text; reasons for the others are
    told.
    """
    for number, line in enumerate(filter(str.strip, reply.splitlines())):
        question, separator, answer = line.partition("||")
        question, answer = _NUMBERING.sub("", question).strip(), answer.strip(" |\"'").rstrip(".。")
        if not separator or not question or not answer:
            on_useless("no question || answer line")
        elif len(answer) > LONGEST_ANSWER:
            on_useless("answer too long")
        elif answer.casefold() in question.casefold():
            on_useless("answer in the question")
        elif not answer_spans(chunk.text, answer):
            on_useless("answer not in the text")
        else:
            yield Answerable(f"{chunk.id}?{number}", chunk.text, question, (answer,), chunk.origin)
