"""What an encoder is trained on and measured on, read once for all runs that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from compressor.training.dataset import TokenLabels, label_texts
from compressor.training.licences import may_ship, shippable
from compressor.training.ranking import RankExample, rank_examples
from compressor.training.records import Answerable, is_held_back, read_answerable, read_labelled

SCORED_FOR_STOPPING = 400  # questions a source: enough to see two points, quick enough for every epoch
FEWEST_SCORED = 40  # questions of a source; the two of one decided over whole epochs before


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records are read: `data` and `questions` files, the share of documents that are held back, and
    whether those are read that may not be given away.
    """

    data: tuple[Path, ...]
    questions: tuple[Path, ...]
    held_back: float
    any_licence: bool = False


@dataclass(frozen=True, slots=True)
class Material:
    """Tokenised texts with labels, questions to rank passages with, held-back questions, and how many
    records were refused, by licence. Runs that differ in seed or depth can share one.
    """

    texts: list[TokenLabels]
    ranked: list[RankExample]
    measured: list[Answerable]
    refused: dict[str, int]


def read_material(choice: Choice, tokenizer: Tokenizer, seed: int) -> Material:
    """Reads and tokenises everything; `seed` draws the wrong passages of each question.

    Raises InvalidRecord for a broken line.
    """
    refused: Counter[str] = Counter()
    texts: list[TokenLabels] = []
    for source, path in enumerate(choice.data):
        records = read_labelled(path)
        allowed = records if choice.any_licence else shippable(records, refused)
        known = (record for record in allowed if not is_held_back(record.origin, choice.held_back))
        texts += label_texts(known, tokenizer, source)
    training, held, seen = _questions(choice)
    usable = [record for record in training if choice.any_licence or may_ship(record.origin.lic)]
    return Material(
        texts, list(rank_examples(usable, tokenizer, seed)), _often_enough(held, seen), dict(refused)
    )


def read_measured(choice: Choice) -> list[Answerable]:
    """Held-back questions: SCORED_FOR_STOPPING of each source that has FEWEST_SCORED; if none has, of all."""
    _, held, seen = _questions(choice)
    return _often_enough(held, seen)


def _questions(choice: Choice) -> tuple[list[Answerable], list[Answerable], Counter[str]]:
    """Questions to rank with, held-back ones, and how many of these each source has."""
    training, held = [], []
    seen: Counter[str] = Counter()
    for path in choice.questions:
        for record in read_answerable(path):
            if not is_held_back(record.origin, choice.held_back):
                training.append(record)
            elif seen[record.origin.source] < SCORED_FOR_STOPPING:
                seen[record.origin.source] += 1
                held.append(record)
    return training, held, seen


def _often_enough(held: Sequence[Answerable], seen: Counter[str]) -> list[Answerable]:
    measured = [record for record in held if seen[record.origin.source] >= FEWEST_SCORED]
    return measured or list(held)
