"""Counts tokens once a text: a memo by content in front of the target model's tokenizer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from compressor.text.tokens import TokenCounter, counter_for
from compressor.turns import in_turns
from gateway.compression.text_memory import LONG_CHARACTERS, Remembered, TextMemory
from gateway.turns import on_thread

# Splitting and counting so many characters takes some 3 ms, which the event loop can bear; more is work for a
# thread.
INLINE_CHARACTERS = 4_000
_INLINE_TEXTS = 500
_AT_ONCE = 1000
_MEMO_ENTRIES = 20_000  # some 250 bytes each
_NOTHING = Remembered("", b"")

_Key = tuple[bytes, bytes, str]  # team, digest of a text, tokenizer


class TokenCounts:
    """Memoised counts for all models of the process."""

    def __init__(self, entries: int = _MEMO_ENTRIES, memory: TextMemory | None = None) -> None:
        """Without a `memory` of its own, long texts share none with anybody."""
        self._entries = entries
        self._memory = memory or TextMemory()
        self._memo: OrderedDict[_Key, int] = OrderedDict()
        self._counters: dict[str, TokenCounter] = {}
        self._team = b""

    def of_team(self, salt: bytes) -> TokenCounts:
        """The view of the team that has this salt: what another team had counted it does not know."""
        view = TokenCounts.__new__(TokenCounts)
        view._entries, view._memo, view._counters = self._entries, self._memo, self._counters
        view._memory, view._team = self._memory.of_team(salt), salt
        return view

    async def counter(self, name: str) -> TokenCounter:
        """The tokenizer's counter; the first call of a name loads it (0.6 s), on a thread.

        Raises InvalidOption.
        """
        if name not in self._counters:
            self._counters[name] = await asyncio.to_thread(counter_for, name)
        return self._counters[name]

    async def count_many(self, texts: Sequence[str], counter: TokenCounter) -> list[int]:
        """One count a text; many characters that are not known yet are counted on a thread."""
        if self.quick(texts, counter):
            return self.count_now(texts, counter)
        return await on_thread(self.count_now, texts, counter)

    def quick(self, texts: Iterable[str], counter: TokenCounter) -> bool:
        """Whether counting these takes a few milliseconds at most."""
        unknown = 0
        for number, text in enumerate(texts):
            if number >= _INLINE_TEXTS:
                return False
            if len(text) < LONG_CHARACTERS or counter.name not in self._memory.counts_of(text):
                unknown += len(text)
                if unknown > INLINE_CHARACTERS:
                    return False
        return True

    def count_now(self, texts: Sequence[str], counter: TokenCounter) -> list[int]:
        """The same at once, in this thread."""
        if len(texts) <= _AT_ONCE:
            return self._count(texts, counter)
        # What is needed on the way to thousands of counts is not all let go of at the same moment.
        slices = (texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE))
        return [count for some in slices for count in self._count(some, counter)]

    def _count(self, texts: Sequence[str], counter: TokenCounter) -> list[int]:
        counts: list[int | None] = []
        unknown: list[tuple[int, _Key, Remembered]] = []
        for text in in_turns(texts):
            known = self._memory.of(text) if text else _NOTHING
            key = (self._team, known.digest, counter.name)
            count = 0 if not text else known.counts.get(counter.name) or self._memo.get(key)
            if count is None:
                unknown.append((len(counts), key, known))
            elif text:
                known.counts[counter.name] = count
            counts.append(count)
        if unknown:
            fresh = counter.count_many([texts[index] for index, _, _ in unknown])
            for (index, key, known), count in in_turns(zip(unknown, fresh, strict=True)):
                counts[index] = self._memo[key] = known.counts[counter.name] = count
            while len(self._memo) > self._entries:
                self._memo.popitem(last=False)
        return [count or 0 for count in counts]
