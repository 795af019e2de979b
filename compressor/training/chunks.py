"""Cut documents into chunks of at most so many tokens that end at sentences, where there are any."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from compressor.training.records import Chunk

CHUNK_TOKENS = 512  # what the paper gives its teacher: longer chunks lose facts (its table 7)
# A sentence ends behind . ! ? or its like in other scripts, closing quotes included, when white space or
# the end
# follows; CJK stops need no space; a line end always ends one.
_END = re.compile(r"[.!?…؟।][\"'”’)\]]*(?=\s|$)\s*|[。！？][”’」』）]*\s*|\n+\s*")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Sentences as character spans that together are the whole text, white space behind each included."""
    ends = [found.end() for found in _END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    starts = [0, *ends[:-1]]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def cut(text: str, offsets: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Character spans of chunks of at most `limit` tokens (given by their `offsets`), whole sentences each.

    A sentence longer than the limit is cut at a token. The spans together are the whole text.
    """
    if len(offsets) <= limit:
        return [(0, len(text))] if text else []
    ends = {end for _, end in sentence_spans(text)}
    # A token may begin with the space before its word, which belongs to the sentence before.
    begins = [start + _spaces(text, start, end) for start, end in offsets]
    boundary = [at for at in range(1, len(offsets)) if begins[at] in ends]
    found: list[tuple[int, int]] = []
    first, start = 0, 0
    while len(offsets) - first > limit:
        behind = bisect_right(boundary, first + limit) - 1
        last = boundary[behind] if behind >= 0 and boundary[behind] > first else first + limit
        found.append((start, begins[last]))
        first, start = last, begins[last]
    found.append((start, len(text)))
    return found


def _spaces(text: str, start: int, end: int) -> int:
    piece = text[start:end]
    return len(piece) - len(piece.lstrip())


def chunk_documents(
    documents: Iterable[Chunk], tokenizer: Tokenizer, limit: int = CHUNK_TOKENS
) -> Iterator[Chunk]:
    """Chunks of each document in order, named `<document>#<number>`; white-space chunks are left out."""
    for document in documents:
        offsets = tokenizer.encode(document.text, add_special_tokens=False).offsets
        for number, (start, end) in enumerate(cut(document.text, offsets, limit)):
            text = document.text[start:end]
            if text.strip():
                yield Chunk(f"{document.id}#{number}", text, document.origin)
