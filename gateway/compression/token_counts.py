"""Counts tokens once a text: a memo by content in front of the target model's tokenizer."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from compressor.text.tokens import TokenCounter, counter_for

# Splitting and counting so many characters takes some 3 ms, which the event loop can bear; more is work for a
# thread.
INLINE_CHARACTERS = 4_000
_MEMO_ENTRIES = 50_000  # some 150 bytes each


class TokenCounts:
    """Memoised counts for all models of the process."""

    def __init__(self, entries: int = _MEMO_ENTRIES) -> None:
        self._entries = entries
        self._memo: OrderedDict[bytes, int] = OrderedDict()
        self._counters: dict[str, TokenCounter] = {}

    async def counter(self, name: str) -> TokenCounter:
        """The tokenizer's counter; the first call of a name loads it (0.6 s), on a thread.

        Raises InvalidOption.
        """
        if name not in self._counters:
            self._counters[name] = await asyncio.to_thread(counter_for, name)
        return self._counters[name]

    async def count_many(self, texts: Sequence[str], counter: TokenCounter) -> list[int]:
        """One count a text; many characters that are not known yet are counted on a thread."""
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            return self.count_now(texts, counter)
        return await asyncio.to_thread(self.count_now, texts, counter)

    def count_now(self, texts: Sequence[str], counter: TokenCounter) -> list[int]:
        """The same at once, in this thread."""
        keys = [_key(counter.name, text) if text else b"" for text in texts]
        counts = [self._memo.get(key) if key else 0 for key in keys]
        unknown = [index for index, count in enumerate(counts) if count is None]
        if not unknown:
            return [count or 0 for count in counts]
        for index, count in zip(
            unknown, counter.count_many([texts[index] for index in unknown]), strict=True
        ):
            counts[index] = self._memo[keys[index]] = count
        while len(self._memo) > self._entries:
            self._memo.popitem(last=False)
        return [count or 0 for count in counts]


def _key(tokenizer: str, text: str) -> bytes:
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=16, key=tokenizer.encode()[:64]
    )
    return digest.digest()
