"""Questions with a passage that answers them and some that do not, to train ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from compressor.training.chunks import sentence_spans
from compressor.training.label_sources import answer_spans
from compressor.training.records import Answerable

QUERY_PREFIX, PASSAGE_PREFIX = "query: ", "passage: "  # what e5 was trained with
NEGATIVES = 3  # other passages of the same context: the hard ones; the batch gives the easy ones
QUESTION_TOKENS, PASSAGE_TOKENS = 48, 160


@dataclass(frozen=True, slots=True)
class RankExample:
    """Token ids without special tokens: a question, its passage, and NEGATIVES others of the same context."""

    question: tuple[int, ...]
    passages: tuple[tuple[int, ...], ...]  # the right one first


def rank_examples(records: Iterable[Answerable], tokenizer: Tokenizer, seed: int) -> Iterator[RankExample]:
    """One example for each question whose answer stands in its context, beside enough other passages.

    A passage is a sentence alone or with its neighbours, in equal parts: both are asked for at run time.
    """
    random = np.random.default_rng(seed)
    waiting: list[str] = []
    spans_of: dict[str, list[tuple[int, int]]] = {}
    for record in records:
        spans = spans_of.setdefault(record.context, sentence_spans(record.context))
        places = [start for answer in record.answers for start, _ in answer_spans(record.context, answer)]
        right = {at for at, (start, end) in enumerate(spans) for place in places if start <= place < end}
        wrong = [at for at in range(len(spans)) if not {at - 1, at, at + 1} & right]
        if not right or not wrong:
            continue
        around = int(random.integers(0, 2))
        chosen = [int(random.choice(sorted(right))), *(int(at) for at in random.choice(wrong, NEGATIVES))]
        waiting.append(QUERY_PREFIX + record.question)
        for at in chosen:
            first, last = spans[max(0, at - around)][0], spans[min(len(spans) - 1, at + around)][1]
            waiting.append(PASSAGE_PREFIX + record.context[first:last].strip())
    encodings = tokenizer.encode_batch_fast(waiting, add_special_tokens=False)
    for at in range(0, len(encodings), NEGATIVES + 2):
        question, *passages = (tuple(encoding.ids) for encoding in encodings[at : at + NEGATIVES + 2])
        yield RankExample(question[:QUESTION_TOKENS], tuple(ids[:PASSAGE_TOKENS] for ids in passages))
