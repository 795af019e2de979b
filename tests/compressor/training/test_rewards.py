"""Labels from what a reader LLM still finds in the shortened text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from compressor.training.encoder import Encoder
from compressor.training.instructions import Message
from compressor.training.label_sources import ANSWER_SENTENCE_KEEP
from compressor.training.records import read_answerable
from compressor.training.rewards import label_by_rewards, read_shortened
from compressor.training.teacher import Reply
from tests.compressor.training.conftest import questions, write_rows


class YearReader:
    """Finds every number and no name; the first question times out."""

    name = "years"
    at_once = 3

    def __init__(self) -> None:
        self.asked: list[str] = []

    def replies(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        self.asked += [prompt[-1]["content"] for prompt in prompts]
        words = [[w for w in prompt[-1]["content"].split() if w.strip(".,").isdigit()] for prompt in prompts]
        first = len(self.asked) == len(prompts)
        replies = [Reply(" ".join(found)) for found in words]
        return [Reply("", "timeout"), *replies[1:]] if first else replies

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None


def test_a_missed_answer_brings_its_sentence(tmp_path: Path, tiny_base: Path) -> None:
    records = list(read_answerable(write_rows(tmp_path / "qa.jsonl", questions(6))))
    reader = YearReader()
    readings = list(read_shortened(records, Encoder(tiny_base).eval(), reader, 1.0, torch.device("cpu")))
    assert len(reader.asked) == 12
    counted: Counter[str] = Counter()
    labelled = list(label_by_rewards(readings, counted))
    assert counted == {"unread": 1, "found": 5, "missed": 6}
    for record in labelled:
        (sentence,) = [span for span in record.spans if span.keep == ANSWER_SENTENCE_KEEP]
        assert record.text[sentence.start : sentence.end].strip().startswith("It was, so people say")


def test_what_is_dropped_is_not_blamed_on_the_reader(tmp_path: Path, tiny_base: Path) -> None:
    records = list(read_answerable(write_rows(tmp_path / "qa.jsonl", questions(3))))
    readings = read_shortened(records, Encoder(tiny_base).eval(), YearReader(), 0.02, torch.device("cpu"))
    counted: Counter[str] = Counter()
    labelled = list(label_by_rewards(list(readings), counted))
    assert counted["missed"] == 0
    assert counted["dropped"] >= 4
    assert not any(span.keep == ANSWER_SENTENCE_KEEP for one in labelled for span in one.spans)
