"""What the steps of one request share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from compressor.text.tokens import TokenCounter
from gateway.chat.conversation import Conversation
from gateway.compression.history import History
from gateway.compression.planner import Rates, hit_rate, rates_of
from gateway.compression.prefixes import Chain, Form, Known
from gateway.compression.scoring import Scored
from gateway.compression.text_memory import TextMemory
from gateway.compression.token_counts import TokenCounts
from gateway.shapes import ParsedRequest, Price
from policies import Plan, Policy

# A body below this is read, hashed and rebuilt in a millisecond or two; above it a thread does it.
_INLINE_BYTES = 128 * 1024
_INLINE_KNOWN_BYTES = 1024 * 1024
MANY_MESSAGES = 500


@dataclass(slots=True)
class Watch:
    """Milliseconds of each step."""

    begun: float = field(default_factory=time.perf_counter)
    last: float = field(default_factory=time.perf_counter)
    steps: dict[str, float] = field(default_factory=dict)

    def lap(self, step: str) -> None:
        """Books the time since the last lap on this step."""
        now = time.perf_counter()
        self.steps[step] = round(self.steps.get(step, 0.0) + (now - self.last) * 1000, 3)
        self.last = now

    @property
    def total_ms(self) -> float:
        """Since the request came in."""
        return round((time.perf_counter() - self.begun) * 1000, 3)


@dataclass(frozen=True, slots=True)
class Job:
    """One request on its way."""

    request: ParsedRequest
    policy: Policy
    budget: Callable[[int, int, str], Plan]  # (compressible tokens, total tokens, seed of the draw) -> plan
    price: Price
    limit: int | None  # tokens that the input must fit into
    counter: TokenCounter
    salt: bytes  # the team's
    memory: TextMemory  # the team's
    counts: TokenCounts  # likewise
    watch: Watch = field(default_factory=Watch)
    # `counter` is not the model's own, which is not here: whose bills teach by how much it is off.
    foreign_tokenizer: str = ""
    billed_per_token: float | None = None  # what they have taught
    upstream_model: str = ""  # as the upstream calls it

    @property
    def rates(self) -> Rates:
        """The prices as the planner needs them."""
        return rates_of(self.price, self.upstream_model)

    def is_large(self, texts: Iterable[str]) -> bool:
        """Whether reading and writing a body with these texts is work for a thread.

        Texts met before cost little. The body is read again once it is rebuilt, whatever is known of it.
        """
        size = len(self.request.body)
        return size > _INLINE_BYTES and (
            size > _INLINE_KNOWN_BYTES or self.memory.new_characters(texts) > _INLINE_BYTES
        )


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the request's conversation."""

    conversation: Conversation
    chain: Chain
    known: Known
    history: History
    fixed_tokens: int  # in front of the messages, and around them
    large: bool = False  # reading and writing it is work for a thread

    @property
    def many(self) -> bool:
        """Whether looking at each message is work for a thread."""
        return len(self.conversation.messages) > MANY_MESSAGES

    @property
    def repeated(self) -> bool:
        """Whether this very request was sent before: it goes in the same forms again."""
        last = len(self.conversation.messages) - 1
        return self.known.head is not None and self.known.head_at == last == len(self.history.forms) - 1

    @property
    def seed(self) -> str:
        """The conversation's name as of its first request: the same at every turn."""
        return self.chain.links[self.chain.heads[-1]] if self.chain.heads else ""

    @property
    def name(self) -> str:
        """As of its second request, which tells apart what begins alike: agents with one task, say."""
        heads = self.chain.heads
        return self.chain.links[heads[max(-2, -len(heads))]] if heads else ""

    def idle_seconds(self, now: float) -> float:
        """Since the conversation's last request; 0 when none is known."""
        return max(0.0, now - self.known.head.at) if self.known.head else 0.0

    @property
    def observed_hit_rate(self) -> float | None:
        """What this conversation has shown, or else the others with its model; None: nothing yet."""
        own = self.known.sighting.hit_rate
        return self.known.habits.read if own is None else own

    def hit_rate(self, now: float, rates: Rates) -> float:
        """How likely what was sent before is still in the upstream's cache; 0 when nothing was."""
        if len(self.history.new) == len(self.conversation.messages):
            return 0.0
        return hit_rate(
            self.observed_hit_rate,
            self.idle_seconds(now),
            self.known.cold.hit_rate,
            seen=self.history.seen,
            discounts=rates.discounts,
        )

    @property
    def generation(self) -> str:
        """Under which the conversation's forms are kept."""
        return self.known.head.generation if self.known.head else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The form of every message, and what is to be told about how they came about."""

    forms: Mapping[int, Form]
    plan: Plan
    generation: str = ""
    scored: Scored | None = None
    failure: str = ""  # skip reason of a request that failed open
    compacted: bool = False
