"""Stable prefixes: the form in which a message was first sent, kept so that it never changes afterwards.

A message is named by a chain hash over everything the upstream reads before it, so its form is found again in
every later turn and on every replica, and a conversation that was changed further up is another conversation.
Forms are added only where none is stored: of two replicas that shorten a message at once, both send the
winner's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from compressor.turns import in_turns
from gateway.chat.conversation import LEFT_OUT, Conversation, Message, Path
from gateway.compression.bounds import FEW, Bounds, compact, decode_bounds, encode_bounds, size_of
from gateway.compression.habits import NO_HABITS, Habits, decode_habits
from gateway.compression.text_memory import LONG_CHARACTERS, TextMemory
from gateway.lru import LruCache
from gateway.stores.base import Cache
from gateway.turns import at_work, with_pauses

# A conversation that is taken up after a week is cold at every provider.
TTL_SECONDS = 7 * 24 * 3600
_FRONT_BYTES = 8 * 1024 * 1024  # of forms remembered in this process: some 20,000 without slices
_FORM_BYTES = 490  # of one without slices, key and slot of the mapping included
_SLICE = 250  # messages that are looked up at once
_FIXED_AT_ONCE = 40  # messages whose forms are stored, or decoded, at once: a millisecond or less
_LONG_BOUNDS = 50_000  # edges of slices, and
_LONG_BYTES = 50_000  # of a stored form: read or written in half a millisecond
_HEADS = (
    4  # earlier ends of the conversation that are asked about: the last turn, and some that were edited away
)


@dataclass(frozen=True, slots=True)
class Form:
    """How one message is sent: which slices of which of its strings. Without `cuts` it goes whole."""

    tokens_before: int
    tokens_after: int
    free: int = 0  # tokens that could still be shortened; 0 once it was
    cuts: tuple[
        tuple[int, int, Bounds], ...
    ] = ()  # (position of the slot, its length, start, end, ...); without slices a note stands there
    aged: bool = False  # an old result that was shortened once more

    def changes(self, message: Message, memory: TextMemory | None = None) -> dict[Path, str]:
        """The shortened strings of the message. Raises ValueError when this is the form of another."""
        memory = memory or TextMemory()
        texts: dict[Path, str] = {}
        for position, length, bounds in self.cuts:
            if position >= len(message.slots) or len(message.slots[position].text) != length:
                raise ValueError("the stored form does not fit the message")
            slot = message.slots[position]
            texts[slot.path] = memory.shortened(slot.text, bounds) if bounds else LEFT_OUT
        return texts

    def encode(self) -> bytes:
        """A line of JSON, then the bytes of the bounds that are not few; places in the text, none of it."""
        tail: list[bytes] = []
        cuts: list[tuple[object, ...]] = []
        for slot, length, bounds in self.cuts:
            if len(bounds) <= FEW:
                cuts.append((slot, length, bounds))
            else:
                pieces, far = encode_bounds(bounds)
                tail += pieces
                cuts.append((slot, length, len(bounds), far))
        values = [self.tokens_before, self.tokens_after, self.free, cuts]
        line = orjson.dumps([*values, 1] if self.aged else values)
        return b"".join([line, b"\n", *tail]) if tail else line

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return _FORM_BYTES + sum([size_of(bounds) + 100 for _, _, bounds in self.cuts])

    @property
    def is_long(self) -> bool:
        """Whether encoding it is work for a thread."""
        return sum([len(bounds) for _, _, bounds in self.cuts]) > _LONG_BOUNDS


def decode_form(data: bytes) -> Form | None:
    """The form in stored bytes; None when they are none."""
    try:
        end = data.find(b"\n")
        line = data if end < 0 else data[:end]
        before, after, free, cuts, *aged = orjson.loads(line)
        tail = memoryview(data)[len(line) + 1 :]
        read: list[tuple[int, int, Bounds]] = []
        for slot, length, bounds, *far in cuts:
            if far:
                read.append((int(slot), int(length), decode_bounds(tail, bounds, far[0])))
                tail = tail[bounds + 4 * far[0] :]
            else:  # few, or written before there were bytes for many
                read.append((int(slot), int(length), compact(map(int, bounds))))
        return Form(int(before), int(after), int(free), tuple(read), bool(aged))
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class Chain:
    """A conversation's names: `links[i]` stands for message i and all that the upstream reads before it."""

    space: str  # of all conversations of this team with this model
    links: tuple[str, ...]
    sizes: tuple[int, ...]  # bytes up to and including message i
    heads: tuple[int, ...]  # messages that ended an earlier request, the latest first

    @property
    def head(self) -> str:
        """The name of the whole conversation as it stands."""
        return self.links[-1] if self.links else self.space


def chain_of(conversation: Conversation, salt: bytes, space: str, memory: TextMemory | None = None) -> Chain:
    """Hashes a conversation. Long texts go in by their digests, which `memory` has of texts met before.

    Markers of the prompt cache are left out: clients move them from turn to turn, and the upstream reads the
    same text.

    Args:
        conversation: The request.
        salt: The team's.
        space: Model, surface and mode: what shares no cache has no common names.
    """
    memory = memory or TextMemory()
    fixed = _canonical(_unmarked(conversation.fixed)) if conversation.fixed else b""
    name = _name_of(salt, space)
    link, size = hashlib.sha256(name + fixed).digest(), len(fixed)
    links: list[str] = []
    sizes: list[int] = []
    for message in in_turns(conversation.messages):
        long: list[str] = []
        data = _canonical(_abridged(_unmarked(message.node), memory, long))
        link = hashlib.sha256(link + data).digest()
        size += len(data) + sum(map(len, long))
        links.append(link[:16].hex())
        sizes.append(size)
    return Chain(name[:16].hex(), tuple(links), tuple(sizes), tuple(_heads(conversation.messages)))


@lru_cache(maxsize=4096)  # one a team and model
def _name_of(salt: bytes, space: str) -> bytes:
    return hmac.digest(salt, space.encode("utf-8", "surrogatepass"), "sha256")


def _heads(messages: Sequence[Message]) -> list[int]:
    """Where earlier requests can have ended: in front of each turn of the model; and here, for a repeated
    request.
    """
    ends = [
        index - 1
        for index in range(1, len(messages))
        if messages[index].begins_turn and not messages[index - 1].begins_turn
    ]
    return [len(messages) - 1, *reversed(ends)] if messages else []


def _abridged(node: Any, memory: TextMemory, long: list[str]) -> Any:
    """The node with digests in place of its long texts, which are added to `long`."""
    if isinstance(node, str):
        if len(node) < LONG_CHARACTERS:
            return node
        long.append(node)
        return "\0sha256:" + memory.of(node).digest.hex()
    if isinstance(node, dict):
        return {key: _abridged(value, memory, long) for key, value in node.items()}
    if isinstance(node, list):
        return [_abridged(value, memory, long) for value in node]
    return node


def _canonical(node: Any) -> bytes:
    try:
        return orjson.dumps(node)
    except orjson.JSONEncodeError:
        return repr(node).encode(
            "utf-8", "surrogatepass"
        )  # an unpaired surrogate, or a number beyond 64 bits


def _unmarked(node: Any) -> Any:
    """Without `cache_control`, and with a lone text part as the plain string that clients send once it moved
    on.
    """
    if isinstance(node, dict):
        content = node.get("content")
        if "cache_control" in node or isinstance(content, list):
            node = {key: value for key, value in node.items() if key != "cache_control"}
            if isinstance(content, list):
                node["content"] = _plain([_unmarked(part) for part in content])
        return {key: _unmarked(value) if key in ("system", "tools") else value for key, value in node.items()}
    if isinstance(node, list):
        return [_unmarked(part) for part in node]
    return node


def _plain(parts: list[Any]) -> Any:
    if len(parts) == 1 and isinstance(parts[0], dict) and set(parts[0]) == {"type", "text"}:
        return parts[0]["text"]
    return parts


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a conversation at the end of one of its requests."""

    generation: str  # "" until a compaction; then the name under which the newer forms are kept
    turns: int
    sent_tokens: int  # of the whole input, as it was sent
    original_tokens: int
    at: float  # seconds since the epoch

    def encode(self) -> bytes:
        """Compact JSON."""
        return orjson.dumps([self.generation, self.turns, self.sent_tokens, self.original_tokens, self.at])


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the upstream said of its prompt cache, carried along the conversation."""

    hit_rate: (
        float | None
    )  # share of the expected prefix that was read from the cache, smoothed; None: never told

    def encode(self) -> bytes:
        """Compact JSON."""
        return orjson.dumps([self.hit_rate])


@dataclass(frozen=True, slots=True)
class Known:
    """What the store remembers of a conversation."""

    forms: tuple[Form | None, ...]  # one a message
    head: Head | None
    head_at: int = -1  # the message that ended the request which `head` is about
    sighting: Sighting = Sighting(None)
    cold: Sighting = Sighting(None)  # of all conversations with this model, after a pause
    habits: Habits = NO_HABITS


class PrefixStore:
    """Forms of messages and ends of conversations, in the shared cache behind a small front."""

    def __init__(self, store: Cache, front_bytes: int = _FRONT_BYTES) -> None:
        self._store = store
        self._front: LruCache[Form] = LruCache(front_bytes, lambda _, form: form.size)

    async def look_up(self, chain: Chain) -> Known:
        """What is known; one round trip, two after a compaction.

        Trouble of the store looks like nothing known.
        """
        heads = [chain.links[index] for index in chain.heads[:_HEADS]]
        keys = [_form_key("", link) for link in chain.links[:_SLICE]]
        here = self._here(keys)
        wanted = [key for key in keys if key not in here]
        asked = [
            f"i:{chain.space}",
            f"h:{chain.space}",
            *(f"c:{head}" for head in heads),
            *(f"u:{head}" for head in heads),
        ]
        cold, habits, *answers = await self._store.get_many([*asked, *wanted])
        head, sighting, head_at = None, Sighting(None), -1
        for index, data, seen in zip(chain.heads, answers, answers[len(heads) :], strict=False):
            head = _decode_head(data)
            if head is not None:
                head_at, sighting = index, _decode_sighting(seen)
                break
        if head is not None and head.generation:
            forms = await self._forms(head.generation, chain.links)
        else:
            here |= await self._take(wanted, answers[2 * len(heads) :])
            forms = [*map(here.get, keys), *await self._forms("", chain.links[_SLICE:])]
        return Known(tuple(forms), head, head_at, sighting, _decode_sighting(cold), decode_habits(habits))

    async def _forms(self, generation: str, links: Sequence[str]) -> list[Form | None]:
        """The known forms; of very long conversations slice by slice, so that others get their turn."""
        forms: list[Form | None] = []
        async for start in with_pauses(range(0, len(links), _SLICE)):
            keys = [_form_key(generation, link) for link in links[start : start + _SLICE]]
            here = self._here(keys)
            wanted = [key for key in keys if key not in here]
            if wanted:
                here |= await self._take(wanted, await self._store.get_many(wanted))
            forms += map(here.get, keys)
        return forms

    async def fix(
        self, chain: Chain, generation: str, forms: Mapping[int, Form], head: Head
    ) -> tuple[dict[int, Form], Head]:
        """Stores forms of messages (index -> form) and the end of this request; returns those that hold.

        They are another replica's where it was first. A failing store leaves ours.
        """
        indices = list(forms)
        winners: dict[int, Form] = {}
        stored: dict[str, bytes] = {}
        async for start in with_pauses(range(0, max(1, len(indices)), _FIXED_AT_ONCE)):
            end = start + _FIXED_AT_ONCE
            keys = {_form_key(generation, chain.links[i]): i for i in indices[start:end]}
            long = any(forms[index].is_long for index in keys.values())
            items = await at_work(long, _encoded, forms, keys)
            if end >= len(indices):  # the end of the conversation comes with its last forms
                items[f"c:{chain.head}"] = head.encode()
            stored = dict(zip(items, await self._store.add_many(items, TTL_SECONDS), strict=True))
            theirs = await _decoded({key: stored[key] for key in keys if stored[key] != items[key]})
            for key, index in keys.items():
                winners[index] = theirs.get(key, forms[index])
                self._front.put(key, winners[index])
        return winners, _decode_head(stored[f"c:{chain.head}"]) or head

    async def note(self, head: str, sighting: Sighting) -> None:
        """Remembers what the upstream said about the request that ended at `head`."""
        await self._store.set_many({f"u:{head}": sighting.encode()}, TTL_SECONDS)

    async def note_turn(self, space: str, *, begins: bool, read: float | None) -> None:
        """Counts one request of the conversations with this model, and what it read from a warm cache.

        Another replica may count in the same moment; that one is lost matters to no share.
        """
        before = decode_habits((await self._store.get_many([f"h:{space}"]))[0])
        habits = before.after(begins=begins, read=read)
        await self._store.set_many({f"h:{space}": habits.encode()}, TTL_SECONDS)

    async def note_cold(self, space: str, hit_rate: float) -> None:
        """Remembers what was still cached after a pause, for all conversations with this model."""
        before = _decode_sighting((await self._store.get_many([f"i:{space}"]))[0]).hit_rate
        rate = hit_rate if before is None else 0.8 * before + 0.2 * hit_rate
        await self._store.set_many({f"i:{space}": Sighting(round(rate, 4)).encode()}, TTL_SECONDS)

    def _here(self, keys: Sequence[str]) -> dict[str, Form]:
        """What the front has; held, as it may be pushed out while the store is asked for the rest."""
        return {key: form for key in keys if (form := self._front.get(key)) is not None}

    async def _take(self, keys: Sequence[str], answers: Sequence[bytes | None]) -> dict[str, Form]:
        found = {key: data for key, data in zip(keys, answers, strict=True) if data is not None}
        taken = await _decoded(found)
        for key, form in taken.items():
            self._front.put(key, form)
        return taken


async def _decoded(stored: Mapping[str, bytes]) -> dict[str, Form]:
    """The forms in what is stored, without what is none."""
    long = len(stored) > _FIXED_AT_ONCE or any(len(data) > _LONG_BYTES for data in stored.values())
    return await at_work(long, _forms_in, stored)


def _forms_in(stored: Mapping[str, bytes]) -> dict[str, Form]:
    decoded = {key: decode_form(data) for key, data in stored.items()}
    return {key: form for key, form in decoded.items() if form is not None}


def _encoded(forms: Mapping[int, Form], keys: Mapping[str, int]) -> dict[str, bytes]:
    return {key: forms[index].encode() for key, index in keys.items()}


def _form_key(generation: str, link: str) -> str:
    return f"f:{generation}:{link}"


def _decode_head(data: bytes | None) -> Head | None:
    if not data:
        return None
    try:
        generation, turns, sent, original, at = orjson.loads(data)
        return Head(str(generation), int(turns), int(sent), int(original), float(at))
    except (ValueError, TypeError):
        return None


def _decode_sighting(data: bytes | None) -> Sighting:
    if not data:
        return Sighting(None)
    try:
        (rate,) = orjson.loads(data)
        return Sighting(None if rate is None else float(rate))
    except (ValueError, TypeError):
        return Sighting(None)
