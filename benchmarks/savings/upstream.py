"""An upstream that bills: the prefix caches of OpenAI, DeepSeek and Anthropic, their prices and lifetimes.

OpenAI, https://platform.openai.com/docs/guides/prompt-caching: automatic, from 1,024 tokens, in steps of 128,
kept 5 to 10 minutes after the last use (300 s here).

DeepSeek, https://api-docs.deepseek.com/guides/kv_cache: automatic, in steps of 64, kept for hours (2 here).

Anthropic, https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching: at markers only, from 1,024
tokens; a read looks back 20 blocks from each marker; what is not read up to the last marker is written; kept
300 s after the last use.

Every hit that the rules allow happens: real providers lose some to routing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import orjson
import tiktoken

from gateway.shapes import Price, Usage

LOOK_BACK = 20


@dataclass(frozen=True, slots=True)
class Provider:
    """A model, its prices (litellm's map of 2026) and its cache."""

    name: str
    price: Price
    kind: Literal["automatic", "markers"]
    step: int  # tokens
    ttl: float  # seconds after the last use
    least: int = 1024  # tokens
    finer: int = 0  # of a hundred tokens so many are two: the tokenizer is not the one that others know


PROVIDERS = (
    Provider("gpt-4o-mini", Price(1.5e-7, 6e-7, 0.75e-7), "automatic", 128, 300),
    Provider("gpt-5", Price(1.25e-6, 1e-5, 1.25e-7), "automatic", 128, 300),
    Provider("deepseek-chat", Price(2.8e-7, 4.2e-7, 2.8e-8), "automatic", 64, 7200, least=64),
    Provider("claude-sonnet-4-5", Price(3e-6, 1.5e-5, 3e-7, 3.75e-6), "markers", 1, 300, finer=18),
)
# Reads its cache at a quarter of the price: between the other two.
GPT_41 = Provider("gpt-4.1", Price(2e-6, 8e-6, 5e-7), "automatic", 128, 300)
OPENAI = (*PROVIDERS[:2], GPT_41)


@dataclass
class Tokens:
    """Token ids of strings, memoised: every strategy sends most strings many times."""

    encoding: tiktoken.Encoding
    _memo: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def ids(self, text: str, finer: int = 0) -> bytes:
        """Four bytes a token; `finer` of a hundred kinds of tokens come as two."""
        found = self._memo.get((text, finer))
        if found is None:
            tokens = np.asarray(self.encoding.encode(text, disallowed_special=()), np.uint32)
            found = np.repeat(tokens, 1 + (tokens % 100 < finer)).tobytes()
            self._memo[text, finer] = found
        return found


class Upstream:
    """One provider's cache over simulated time."""

    def __init__(self, provider: Provider, tokens: Tokens) -> None:
        self.provider = provider
        self._tokens = tokens
        self._last_used: dict[bytes, float] = {}

    def answer(self, raw: dict[str, Any], now: float, output_tokens: int) -> Usage:
        """The usage that this request is billed for."""
        finer = self.provider.finer
        blocks = [
            (self._tokens.ids(role, finer) + self._tokens.ids(text, finer), marked)
            for role, text, marked in _rendered(raw)
        ]
        total = sum(len(ids) for ids, _ in blocks) // 4
        if self.provider.kind == "markers":
            read, written = self._by_markers(blocks, now)
        else:
            read, written = self._automatic(b"".join(ids for ids, _ in blocks), now), 0
        return Usage(total, read, written, output_tokens, cache_reported=True)

    def _automatic(self, ids: bytes, now: float) -> int:
        size = self.provider.step * 4
        links = []
        link = b""
        for start in range(0, len(ids) - size + 1, size):
            link = blake2b(link + ids[start : start + size], digest_size=16).digest()
            links.append(link)
        alive = 0
        for link in links:
            if not self._alive(link, now):
                break
            alive += 1
        for link in links:
            self._last_used[link] = now
        cached = alive * self.provider.step
        return cached if cached >= self.provider.least else 0

    def _by_markers(self, blocks: Sequence[tuple[bytes, bool]], now: float) -> tuple[int, int]:
        links, sizes = [], []
        link, size = b"", 0
        for ids, _ in blocks:
            link = blake2b(link + ids, digest_size=16).digest()
            size += len(ids) // 4
            links.append(link)
            sizes.append(size)
        marked = [
            index for index, (_, mark) in enumerate(blocks) if mark and sizes[index] >= self.provider.least
        ]
        if not marked:
            return 0, 0
        near = {back for index in marked for back in range(max(0, index - LOOK_BACK + 1), index + 1)}
        hits = [index for index in near if self._alive(links[index], now)]
        read = sizes[max(hits)] if hits else 0
        for index in [*marked, *([max(hits)] if hits else [])]:
            self._last_used[links[index]] = now
        return read, sizes[marked[-1]] - read

    def _alive(self, link: bytes, now: float) -> bool:
        return now - self._last_used.get(link, -1e18) <= self.provider.ttl


def _rendered(raw: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What the model reads, block by block: its role (signs of their own in a chat template, which merge with
    no text), the text, and whether the block is marked.
    """
    if raw.get("tools"):
        yield "", orjson.dumps(raw["tools"]).decode(), False
    for block in raw.get("system", ()):
        yield "<system>", block["text"], "cache_control" in block
    for message in raw["messages"]:
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        for block in blocks:
            plain = {key: value for key, value in block.items() if key != "cache_control"}
            # The text of a result stands in the prompt as it is, not escaped as JSON once more.
            said = plain.pop("text" if plain["type"] == "text" else "content", "")
            call = "" if plain == {"type": "text"} else orjson.dumps(plain).decode()
            yield f"<{message['role']}>{call}", said, "cache_control" in block
        if message.get("tool_calls"):
            yield "", orjson.dumps(message["tool_calls"]).decode(), False
