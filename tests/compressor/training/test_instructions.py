"""What of a teacher's reply becomes questions, and why the rest does not."""

from __future__ import annotations

from collections import Counter

from compressor.training.instructions import LONGEST_ANSWER, questions_in
from compressor.training.records import Chunk, Origin

TEXT = (
    "The bridge was opened in 1962 by the mayor, Ada Koch, " + "after a long delay and much talk " * 4 + "."
)


def test_each_line_is_a_question_or_is_counted() -> None:
    reply = "\n".join(
        [
            "1. When was the bridge opened? || 1962",
            "- **Q: Who opened it? || Ada Koch.",
            "Who opened the bridge, Ada Koch? || Ada Koch",
            "When was it closed? || 1987",
            f"Why? || {TEXT[54 : 54 + LONGEST_ANSWER + 5]}",
            "I hope this helps!",
        ]
    )
    useless: Counter[str] = Counter()
    found = list(questions_in(Chunk("c", TEXT, Origin("doc")), reply, lambda why: useless.update([why])))
    assert [(one.question, one.answers) for one in found] == [
        ("When was the bridge opened?", ("1962",)),
        ("Who opened it?", ("Ada Koch",)),
    ]
    assert useless == {
        "answer in the question": 1,
        "answer not in the text": 1,
        "answer too long": 1,
        "no question || answer line": 1,
    }
