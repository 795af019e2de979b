"""Rewards from a reader LLM: does it still find the answer in the shortened text?

An answer that survives is of no use when the reader cannot tell what it is about. So questions that the
reader misses although their answer is there have the sentence around it labelled too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from compressor.training.answer_kept import normalised, shorten_plainly
from compressor.training.encoder import Encoder, score_texts
from compressor.training.instructions import Message
from compressor.training.label_sources import label_answers
from compressor.training.records import Answerable, Labelled, read_answerable
from compressor.training.starting import Start, default_folder, prepare
from compressor.training.teacher import Teacher, in_groups

_SYSTEM = "You answer questions from a text. The text has gaps. Answer with a few words copied from it."


@dataclass(frozen=True, slots=True)
class Reading:
    """One question read from the shortened text: is the answer still there, and did the reader give it?

    `trouble` is what kept the reader from answering, if anything did; then `found` means nothing.
    """

    record: Answerable
    kept: bool
    found: bool
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Shortener:
    """Who shortens and how far: an encoder's folder (None: the embedded one), unpacked under `unpacked`."""

    folder: Path | None
    unpacked: Path
    rate: float


def rewards_of(
    questions: Path, reader: Teacher, shortener: Shortener, counted: Counter[str]
) -> Iterator[Labelled]:
    """Labels of a file of questions by rewards. Raises InvalidRecord, ModelLoadFailed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = prepare(Start(shortener.folder or default_folder()), shortener.unpacked)
    encoder = Encoder(base).to(device).eval()
    records = list(read_answerable(questions))
    readings = list(read_shortened(records, encoder, reader, shortener.rate, device))
    return label_by_rewards(readings, counted)


def read_shortened(
    records: Sequence[Answerable], encoder: Encoder, reader: Teacher, rate: float, device: torch.device
) -> Iterator[Reading]:
    """Each question's reading, from its context shortened by `encoder`, words alone, to `rate` of it."""
    texts = list(dict.fromkeys(record.context for record in records))
    scores = score_texts(encoder, texts, device)
    shortened = {text: shorten_plainly(text, own, rate) for text, own in zip(texts, scores, strict=True)}
    prompts = [_prompt(shortened[record.context], record.question) for record in records]
    for at, reply in in_groups(reader, prompts):
        record = records[at]
        answers = [wanted for answer in record.answers if (wanted := normalised(answer))]
        said, left = normalised(reply.text), normalised(shortened[record.context])
        kept, found = any(one in left for one in answers), any(one in said for one in answers)
        yield Reading(record, kept, found, reply.trouble)


def label_by_rewards(readings: Sequence[Reading], counted: Counter[str]) -> Iterator[Labelled]:
    """Labels from the questions, with the answer's sentence where it was there and not found.

    `counted` gets how many were found, missed, dropped and unread.
    """
    missed = set()
    for one in readings:
        kind = "unread" if one.trouble else "found" if one.found else "missed" if one.kept else "dropped"
        counted[kind] += 1
        if kind == "missed":
            missed.add(one.record.id)
    return label_answers([one.record for one in readings], frozenset(missed))


def _prompt(text: str, question: str) -> list[Message]:
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": f"Text:\n{text}\n\nQuestion: {question}"},
    ]
