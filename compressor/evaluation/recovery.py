"""LongLLMLingua's subsequence recovery (arXiv 2310.06839, 4.4): phrases as the original has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_GAP = 10  # tokens between two matched tokens of a mended phrase, as in the reference


class Recovery:
    """Mends answers with the tokenizer of the model that chose the tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, folder: str | Path) -> Recovery:
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False))

    def mend(self, answer: str, original: str, shortened: str) -> str:
        """The answer with each longest run of words that stands in the shortened text replaced.

        What comes instead is the shortest passage of the original that has the run's tokens in order with no
        gap above `MAX_GAP`.
        """
        words = answer.split(" ")
        original_ids = self._encode(original)
        mended: list[str] = []
        at = 0
        while at < len(words):
            end = at
            while end < len(words) and " ".join(words[at : end + 1]) in shortened:
                end += 1
            phrase = " ".join(words[at : max(end, at + 1)])
            mended.append(self._passage(phrase, original_ids) if end > at and phrase else phrase)
            at = max(end, at + 1)
        return " ".join(mended)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _passage(self, phrase: str, original: Sequence[int]) -> str:
        """The shortest passage of the original with the phrase's tokens in order, or the phrase itself."""
        for wanted in (self._encode(" " + phrase), self._encode(phrase)):
            found = shortest_passage(original, wanted)
            if found is not None:
                return str(self._tokenizer.decode(list(original[found[0] : found[1]]))).strip()
        return phrase


def shortest_passage(original: Sequence[int], wanted: Sequence[int]) -> tuple[int, int] | None:
    """[start, stop) of the shortest passage with all of `wanted` in order and no large gap; or None."""
    best: tuple[int, int] | None = None
    for start, token in enumerate(original):
        if not wanted or token != wanted[0]:
            continue
        stop = follow(original, wanted, start)
        if stop is not None and (best is None or stop - start < best[1] - best[0]):
            best = (start, stop)
    return best


def follow(original: Sequence[int], wanted: Sequence[int], start: int) -> int | None:
    """Where the passage that begins at `start` ends when it has all of `wanted` in order, else None."""
    at = start
    for token in wanted[1:]:
        window = list(original[at + 1 : at + 2 + MAX_GAP])
        if token not in window:
            return None
        at += 1 + window.index(token)
    return at + 1
