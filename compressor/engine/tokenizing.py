"""Text to encoder tokens with their places in the text, through the Rust tokenizer on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.engine.surfaces import Pieces, surfaces_of
from compressor.errors import InvalidText, ModelLoadFailed
from compressor.text.words import Words

# Long texts are tokenised in pieces side by side: 1,024 characters cost the tokenizer about a millisecond, a
# hundred times what handing them to a thread costs, and spread one 10k-token prompt over 16 cores.
PIECE_CHARS = 1024
# Pieces of one call. Slabs are small, so that the encoder starts early and is fed while the rest is made:
# at 256, 92k tokens took XLM-R-large on an H200 205 ms, its passes alone 117. They also bound the tokenizer's
# own memory (about 300 bytes a token) on 10 MB texts.
FIRST_SLAB, SLAB = 16, 64
# A "word" of many windows (base64, one letter ten million times) is judged by its beginning.
GIANT_WORD_CHARS = 2048
_NEWLINE, _SPACE = 10, 32
_FULLWIDTH_STOPS = np.array([ord(c) for c in "。，！？；、"], np.uint32)
_LONGEST_RUN = 64  # a longer run of whitespace may be cut anywhere
_WHITESPACE = frozenset((9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x2028, 0x2029, 0x3000))


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """`ids[i]` stands for `text[starts[i]:ends[i]]`; all three are [tokens], special tokens left out."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    last: bool = False  # nothing of the text follows


@dataclass(frozen=True, slots=True)
class Slab:
    """Pieces of a text that are tokenised in one call, each on its own; characters [start, end)."""

    spans: list[tuple[int, int]]
    last: bool  # no other follows


class TextTokenizer:
    """A fast tokenizer as the engine uses it. Safe to call from several threads.

    `prefix` and `suffix` are the special tokens that the model's family puts around a text, read off the
    tokenizer itself. Special tokens spelled out in a text (`</s>`, `[SEP]`) are plain text here.
    """

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.prefix, self.suffix = _special_tokens(tokenizer)
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._special, self._unknown = _special_tokens_of(tokenizer)
        self._surfaces = surfaces_of(tokenizer)

    def tokenize(self, text: str, codes: NDArray[np.uint32], words: Words) -> Iterator[TokenizedText]:
        """Tokens of the text (its characters: `codes`), slab by slab; of a giant word its beginning only."""
        for slab in cut_slabs(codes, words):
            yield self.read(slab, codes, self.encode(slab, text))

    def encode(self, slab: Slab, text: str) -> list[Any]:
        """The first half: what the Rust side makes of each piece, nearly all of it without Python's lock."""
        pieces = [text[start:end] for start, end in slab.spans]
        return self._encode(pieces, places=self._surfaces is None)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without places or special tokens. Raises InvalidText."""
        for text in texts:
            code_points(text)
        return [
            piece.ids for piece in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def read(self, slab: Slab, codes: NDArray[np.uint32], encoded: list[Any]) -> TokenizedText:
        """The second half: ids and places."""
        spans = slab.spans
        counts = np.array([len(piece) for piece in encoded], np.int64)
        ids = np.fromiter(chain.from_iterable(piece.ids for piece in encoded), np.int32, int(counts.sum()))
        begins, ends = np.array(spans, np.int64).T
        found, known = np.zeros((2, ids.size), np.int32), np.zeros(len(spans), bool)
        if self._surfaces is not None:
            # Pieces follow each other, but for the tails of giant words.
            contents = np.concatenate([codes[a:b] for a, b in _joined(spans)])
            places = self._surfaces.locate(Pieces(contents, ends - begins, ids, counts))
            known = places.known
            shifts = np.repeat(begins - (np.cumsum(ends - begins) - (ends - begins)), counts)
            found[:] = places.starts + shifts, places.ends + shifts
        if not known.all():
            unknown = np.flatnonzero(~known).tolist()
            if self._surfaces is not None:
                pieces = [_text_of(codes[slice(*spans[index])]) for index in unknown]
                exact = self._encode(pieces, places=True)
            else:
                exact = encoded
            tokens = np.repeat(~known, counts)
            pairs = chain.from_iterable(chain.from_iterable(piece.offsets for piece in exact))
            offsets = np.fromiter(pairs, np.int32, 2 * int(tokens.sum())).reshape(-1, 2)
            found[:, tokens] = offsets.T + np.repeat(begins[unknown], counts[unknown]).astype(np.int32)
        if self._unknown is not None:  # Unigram vocabularies hold "</s>" as a piece, too
            ids[self._special[np.minimum(ids, self._special.size - 1)]] = self._unknown
        return TokenizedText(ids, found[0], found[1], slab.last)

    def _encode(self, pieces: Sequence[str], *, places: bool) -> list[Any]:
        """Each piece's encoding; equal pieces are encoded once (megabytes of spaces are one, many times)."""
        encode = self._tokenizer.encode_batch if places else self._tokenizer.encode_batch_fast
        different = list(dict.fromkeys(pieces))
        encoded: list[Any] = encode(different, add_special_tokens=False)
        if len(different) == len(pieces):
            return encoded
        known = dict(zip(different, encoded, strict=True))
        return [known[piece] for piece in pieces]


def code_points(text: str) -> NDArray[np.uint32]:
    """The text as numbers, [characters]. Raises InvalidText, with the place, for an unpaired surrogate."""
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        raise InvalidText(f"unpaired surrogate at character {error.start}") from None


def may_have_giants(codes: NDArray[np.uint32]) -> bool:
    """Whether some word may be a giant. If not, the text can be cut before its words are known."""
    breaks = np.flatnonzero((codes == _SPACE) | (codes == _NEWLINE))
    gaps = np.diff(breaks, prepend=-1, append=codes.size)
    return bool(gaps.max() > GIANT_WORD_CHARS)


def cut_slabs(codes: NDArray[np.uint32], words: Words | None = None) -> list[Slab]:
    """The text in slabs, the first one small; without the ends of giant words, where words are given."""
    parts = [(0, codes.size)] if words is None else _without_giant_tails(words, codes.size)
    spans = [span for part in parts for span in cut_pieces(codes, *part)]
    bounds = sorted({0, *range(FIRST_SLAB, len(spans), SLAB), len(spans)})
    return [Slab(spans[start:end], end == len(spans)) for start, end in pairwise(bounds)]


def cut_pieces(codes: NDArray[np.uint32], start: int, end: int) -> list[tuple[int, int]]:
    """`codes[start:end]` as spans of at most PIECE_CHARS, cut before whitespace, else behind punctuation.

    Every family of tokenizers splits at whitespace first and leaves it with what follows, so cutting before
    it changes no token. In text without any (Chinese, base64) the tokens around a cut may differ.
    """
    spans = []
    while end - start > PIECE_CHARS:
        cut = start + 1 + _last_break(codes[start + 1 : start + PIECE_CHARS + 1])
        spans.append((start, cut))
        start = cut
    return [*spans, (start, end)] if end > start else spans


def _text_of(codes: NDArray[np.uint32]) -> str:
    return codes.tobytes().decode("utf-32-le")


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same characters in as few spans as can be."""
    joined = [spans[0]]
    for start, end in spans[1:]:
        if start == joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _without_giant_tails(words: Words, size: int) -> list[tuple[int, int]]:
    """The text's spans once everything past the first GIANT_WORD_CHARS of a word is left out."""
    giant = np.flatnonzero(words.ends - words.starts > GIANT_WORD_CHARS)
    spans, start = [], 0
    for index in giant.tolist():
        spans.append((start, int(words.starts[index]) + GIANT_WORD_CHARS))
        start = int(words.ends[index])
    return [*spans, (start, size)]


def _last_break(piece: NDArray[np.uint32]) -> int:
    newlines = np.flatnonzero(piece == _NEWLINE)
    if newlines.size and newlines[-1] >= PIECE_CHARS // 2:
        return _run_start(piece, int(newlines[-1]))
    spaces = np.flatnonzero(piece == _SPACE)
    if spaces.size:
        return _run_start(piece, int(spaces[-1]))
    stops = np.flatnonzero(np.isin(piece[:-1], _FULLWIDTH_STOPS))
    return int(stops[-1]) + 1 if stops.size else piece.size - 1


def _run_start(piece: NDArray[np.uint32], at: int) -> int:
    """The first character of the run of whitespace that `at` is in, if something stands before it."""
    first = at
    while first and at - first < _LONGEST_RUN and int(piece[first - 1]) in _WHITESPACE:
        first -= 1
    return first or at


def _special_tokens_of(tokenizer: Any) -> tuple[NDArray[np.bool_], int | None]:
    """Whether each id is a special token (the last mark stands for all beyond), and the unknown one."""
    special = [int(at) for at, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    marks = np.zeros(max(special, default=-1) + 2, bool)
    marks[special] = True
    known = (tokenizer.token_to_id(name) for name in ("<unk>", "[UNK]"))
    return marks, next((at for at in known if at is not None), None)


def _special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for at in range(len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return tuple(full[:at]), tuple(full[at + len(plain) :])
    raise ModelLoadFailed("the tokenizer changes a text's tokens when it adds special tokens")
