"""What one request may cost at most: its input as it goes upstream, and the longest answer it may get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gateway.shapes import Compressed, ParsedRequest, Price
from gateway.stores.base import Room

# When neither the client nor the price map bounds the answer; where many older models stop.
UNKNOWN_OUTPUT: Final = 4096
MOST_CHOICES: Final = 128  # OpenAI's bound for `n`


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that one request can be billed."""

    input_tokens: int
    output_tokens: int
    micro_usd: int

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


def estimate(request: ParsedRequest, compressed: Compressed, price: Price) -> Estimate:
    """From the tokens after compression; every token of output that the request allows is counted."""
    tokens_in = max(0, compressed.tokens_after)
    tokens_out = 0 if request.surface == "embeddings" else _longest_answer(request, tokens_in, price)
    dearest = price.input
    # Anthropic bills what a request marks for its cache above the input's price.
    if price.cache_write > price.input and request.is_marked:
        dearest = price.cache_write
    usd = tokens_in * dearest + tokens_out * price.output
    # Floating point must not turn a whole micro-dollar into the next one.
    return Estimate(tokens_in, tokens_out, math.ceil(usd * 1_000_000 - 1e-6))


def _longest_answer(request: ParsedRequest, tokens_in: int, price: Price) -> int:
    longest = request.max_output_tokens
    if longest is None:
        longest = price.max_output if price.max_output is not None else UNKNOWN_OUTPUT
        if price.context_window is not None:
            longest = min(longest, max(0, price.context_window - tokens_in))
    return max(0, longest) * _choices(request)


def _choices(request: ParsedRequest) -> int:
    asked = [request.raw.get("n"), request.raw.get("best_of")]
    counts = [number for number in asked if isinstance(number, int) and not isinstance(number, bool)]
    return max(1, min(MOST_CHOICES, max(counts, default=1)))


def affordable_input(request: ParsedRequest, price: Price, room: Room) -> int | None:
    """Tokens of input that the budgets still cover beside the longest answer; None: nothing bounds them."""
    limits = []
    whole = estimate_of_answer(request, price)
    if room.tokens is not None:
        limits.append(room.tokens - whole)
    if room.micro_usd is not None and price.input > 0:
        limits.append(math.floor((room.micro_usd / 1_000_000 - whole * price.output) / price.input + 1e-6))
    return max(0, min(limits)) if limits else None


def estimate_of_answer(request: ParsedRequest, price: Price) -> int:
    """Tokens of the longest answer, whatever the input."""
    return 0 if request.surface == "embeddings" else _longest_answer(request, 0, price)
