"""How llmlingua reads a tokenizer's pieces: where a word begins, what is special, what stands in for what."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Family = Literal["wordpiece", "metaspace"]
PLACEHOLDER = "[NEW{}]"  # the vocabulary entries that llmlingua adds for force tokens of several pieces


@dataclass(frozen=True, slots=True)
class PieceRules:
    """The rules for one tokenizer and one list of force tokens.

    `wordpiece`: a piece that continues a word begins with `##` (multilingual BERT). `metaspace`: a piece that
    begins a word begins with `▁` (XLM-R).
    """

    family: Family
    special: frozenset[str]  # pieces that are dropped, wherever they come from
    force: tuple[str, ...]
    stand_ins: tuple[tuple[str, str], ...]  # (force token, its placeholder), in order

    @property
    def placeholders(self) -> frozenset[str]:
        return frozenset(new for _, new in self.stand_ins)

    def bare(self, piece: str) -> str:
        """The piece without its mark. llmlingua strips characters, so every leading `#` goes."""
        return piece.lstrip("#" if self.family == "wordpiece" else "▁")

    def is_forced(self, piece: str) -> bool:
        bare = self.bare(piece)
        return bare in self.force or bare in self.placeholders

    def begins_word(self, piece: str) -> bool:
        if self.family == "wordpiece":
            return self.is_forced(piece) or not piece.startswith("##")
        # A substring test, as in llmlingua: "()" and "" count as punctuation, "(." does not.
        marked = piece in string.punctuation or piece in self.force or piece in self.placeholders
        return marked or piece.startswith("▁")

    def hide(self, text: str) -> str:
        """Force tokens replaced by their placeholders."""
        for original, placeholder in self.stand_ins:
            text = text.replace(original, placeholder)
        return text

    def reveal(self, text: str) -> str:
        """Placeholders replaced by their force tokens."""
        for original, placeholder in self.stand_ins:
            text = text.replace(placeholder, original)
        return text

    def label(self, word: str) -> str:
        """A word as it appears in `fn_labeled_original_prompt`."""
        return word.lstrip("▁") if self.family == "metaspace" else word


def chunk_pieces(pieces: Sequence[str], ends: frozenset[str], window: int) -> list[tuple[int, int]]:
    """Cuts a piece list into [start, stop) chunks that end at one of `ends` where they can.

    A chunk reaches back from its `window + 1`-th piece to the last end token. Where none is found the chunk
    has `window + 1` pieces, one more than the encoder takes: llmlingua's fault, kept.
    """
    chunks: list[tuple[int, int]] = []
    start, total = 0, len(pieces)
    while start < total:
        if start + window > total - 1:
            chunks.append((start, total))
            break
        last = start + window
        stop = next((at for at in range(last, start, -1) if pieces[at] in ends), last) + 1
        chunks.append((start, stop))
        start = stop
    return chunks
