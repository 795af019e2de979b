"""Selective-Context (Li et al. 2023, arXiv 2310.06201): drop what a causal model finds least surprising.

As there: sentences are scored one by one behind the first token, a unit's score is the mean surprisal of its
tokens, and one threshold serves the whole text. Units are words or sentences; the paper's third kind, noun
phrases, needs a parser for each language and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compressor.evaluation.causal import CausalModel, Surprisals
from compressor.evaluation.methods.shapes import Job, ShortText
from compressor.evaluation.methods.words import keep_best_pieces, keep_best_words, split_sentences
from compressor.text.tokens import TokenCounter
from compressor.text.words import split_words


class SelectiveContext:
    """Units by mean surprisal under an exact budget."""

    def __init__(
        self, model: CausalModel, counter: TokenCounter, unit: Literal["word", "sentence"] = "word"
    ) -> None:
        self._model = model
        self._counter = counter
        self._unit = unit

    def shorten(self, jobs: Sequence[Job]) -> list[ShortText]:
        sentences = [split_sentences(job.context) for job in jobs]
        flat = [sentence for found in sentences for sentence in found]
        encoded = self._model.tokenizer(
            flat, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        scored = iter(
            zip(self._model.surprisals(encoded["input_ids"]), encoded["offset_mapping"], strict=True)
        )
        short = []
        for job, found in zip(jobs, sentences, strict=True):
            losses = [next(scored) for _ in found]
            short.append(ShortText(self._choose(job, found, losses)))
        return short

    def _choose(
        self,
        job: Job,
        sentences: Sequence[str],
        losses: Sequence[tuple[Surprisals, Sequence[tuple[int, int]]]],
    ) -> str:
        if self._unit == "sentence":
            means = [float(surprisal.mean()) if len(surprisal) else 0.0 for surprisal, _ in losses]
            return keep_best_pieces(sentences, means, job.target_tokens, self._counter)
        words = split_words(job.context)
        totals, counts = np.zeros(len(words)), np.zeros(len(words))
        begin = 0
        for sentence, (surprisal, offsets) in zip(sentences, losses, strict=True):
            # A token belongs to the word of its last character: byte-level tokens begin with the space.
            ends = np.array([begin + end - 1 for _, end in offsets], dtype=np.int64)
            owners = np.searchsorted(words.ends, ends, side="right")
            inside = owners < len(words)
            np.add.at(totals, owners[inside], surprisal[inside])
            np.add.at(counts, owners[inside], 1)
            begin += len(sentence)
        means_by_word = totals / np.maximum(counts, 1)
        return keep_best_words(words, means_by_word, job.target_tokens, self._counter)
