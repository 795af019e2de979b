"""Expected dollars and seconds of each way to send a request; the cheapest wins. Pure arithmetic.

Three choices: as it is, shorten what the upstream has not seen, or shorten old messages as well (a
compaction: what stands behind the first changed message is written anew once, and everything is cheaper from
then on). Only what differs between the choices is counted: the input now, and the input of the turns that are
still to come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gateway.shapes import Price

Choice = Literal["as-is", "new", "all"]

# A compaction changes what the upstream has cached, on the strength of a forecast: it must pay well.
_COMPACTION_MARGIN = 0.1  # of the cost of sending as it is
_COMPACTION_SHRINKS = 0.15  # of the old messages at least: so a conversation of any length has few of them
# Nine of ten conversations (see below) go on for this share of the turns expected: by then it must have paid.
_COMPACTION_PAYS_BY = 0.3
# Half of the conversations that have had n turns have at least this share of n still to come, if their
# lengths follow a power law with exponent 2 (sqrt(2) - 1); the mean, n, would rest on a few very long ones.
# Beyond 20 nobody knows.
_SHARE_AHEAD = 0.41
_MOST_TURNS_AHEAD = 20.0
# Providers cache nothing below this many tokens (OpenAI, Anthropic's larger models; DeepSeek: 64).
LEAST_CACHED_TOKENS = 1024
# The upstream counts with a tokenizer of its own: what we count may be this much more or less over there. A
# prompt that is sent as it is counts as cached from the lesser size on, one that we shorten from the greater.
PERHAPS_CACHED_TOKENS, SURELY_CACHED_TOKENS = 870, 1200
# To what a prompt is shortened that has to stay above: ten of OpenAI's steps of 128, and some tokens for what
# may be left out beyond the target, so that the tenth is still read.
STAYS_CACHED_TOKENS = 1312
# How long a prefix that nobody reads stays cached: five minutes at Anthropic, five to ten at OpenAI.
CACHE_SECONDS = 300
# Before a conversation has shown what its upstream does. 0.8 is what headroom's and litellm's users report as
# hit rate of an undisturbed agent; unseen history was sent by somebody else, or never.
_PRIOR_HIT_RATE = 0.8
_UNSEEN_HIT_RATE = 0.5
# What a second of waiting is worth where a policy weighs it: a person's, at $30 an hour.
USD_PER_SECOND = 0.008
# The scored token's share of a rented machine: an H200 at $3.5 an hour and 250,000 tokens/s; two cores at
# $0.08 an hour and 2,500 tokens/s.
_USD_PER_SCORED_TOKEN = {"cuda": 3.9e-9, "cpu": 8.9e-9}


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per token of input: read for the first time, read from the cache, written to it. 0 is free."""

    input: float
    cache_read: float
    cache_write: float
    any_size: bool = False  # the smallest prompt is cached, too

    @property
    def discounts(self) -> bool:
        """Whether a cached token is cheaper than a new one."""
        return self.cache_read < self.input


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one request looks like to the planner. Tokens of the target model."""

    old_tokens: int  # messages that were sent before, in the form they have
    old_kept: int  # the same once the old messages are shortened too
    old_untouched: int  # those in front of the first message that this would change
    new_tokens: int  # messages that the upstream has not seen, as they are
    new_kept: int  # the same, shortened on their own
    new_kept_all: int  # the same, shortened together with the old ones
    score_new: int  # tokens that must be scored for it (0 when the scores are cached)
    score_old: int
    hit_rate: float  # probability that the old messages are read from the upstream's cache, now
    later_hit_rate: float  # and in the turns ahead
    turns_ahead: float
    # What a prompt loses that is shortened below the least cached size: turns that follow in the mean, and
    # the share of it that they would have read.
    further_turns: float = 0.0
    further_hit_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Costs:
    """The model's prices and our own."""

    rates: Rates
    usd_per_scored_token: float = 0.0
    usd_per_second: float = 0.0  # what a second of waiting is worth to the caller
    slower_never: bool = False  # what makes the first token come later is not chosen
    prefill_per_second: float = 20_000.0  # tokens the upstream reads a second, before its first token
    scored_per_second: float = 0.0  # tokens our encoder scores a second; 0: not known, not counted


@dataclass(frozen=True, slots=True)
class Forecast:
    """The cheapest choice, what it is expected to save against sending as is, and what each would cost."""

    choice: Choice
    saves_usd: float
    usd: dict[Choice, float]
    seconds: dict[Choice, float]  # to the first token, saved; negative where our own time is longer
    too_slow: bool = False  # shortening the new messages would pay, but they would come later


def rates_of(price: Price, model: str = "") -> Rates:
    """The prices as the planner needs them.

    A price that is not known is taken from the next one: no discount for reading, no surcharge for writing. A
    model without any price (self-hosted) is planned as if it cost a little, with free reads from its prefix
    cache, which such servers (vLLM, llama.cpp) keep for prompts of any size: what counts there is the time of
    its GPU. DeepSeek caches from 64 tokens on, and so do the servers on which others host its models.
    """
    if price.input <= 0:
        return Rates(1e-7, 1e-8, 1e-7, any_size=True)
    return Rates(
        price.input,
        price.cache_read or price.input,
        price.cache_write or price.input,
        any_size="deepseek" in model.lower(),
    )


def scoring_price(device: str) -> float:
    """USD per scored token on this kind of device."""
    return _USD_PER_SCORED_TOKEN["cuda" if device.startswith(("cuda", "http", "unix")) else "cpu"]


def turns_ahead(turns: int) -> float:
    """How many more turns a conversation of so many is expected to have; one request alone: none."""
    return min(max(turns - 1, 0) * _SHARE_AHEAD, _MOST_TURNS_AHEAD)


def hit_rate(
    observed: float | None, idle_seconds: float, cold: float | None = None, *, seen: bool, discounts: bool
) -> float:
    """How likely the old messages are still in the upstream's cache.

    Args:
        observed: The share of the prefix that earlier turns of this conversation read from the cache, as
            the upstream said; None when it has said nothing.
        idle_seconds: Since the conversation's last request.
        cold: The share that this model's conversations read after a pause longer than CACHE_SECONDS: some
            providers keep a prefix for minutes, some for hours. None when no pause was seen yet.
        seen: Whether that prefix went through this gateway in the form that it has now.
        discounts: Whether the model's price knows cached tokens at all.
    """
    if not discounts:
        return 0.0
    if not seen:
        return _UNSEEN_HIT_RATE
    warm = _PRIOR_HIT_RATE if observed is None else min(1.0, max(0.0, observed))
    if idle_seconds <= CACHE_SECONDS:
        return warm
    # Not known: taken for warm, so that the first pause disturbs nothing and shows what the upstream does.
    return warm if cold is None else min(warm, cold)


def forecast(prospect: Prospect, costs: Costs) -> Forecast:
    """Compares the choices. `as-is` wins ties; `all` must beat the others by a margin."""
    p, rates = prospect, costs.rates
    as_is = _cost(p, rates, p.old_tokens, p.old_tokens, p.new_tokens, PERHAPS_CACHED_TOKENS)
    usd: dict[Choice, float] = {"as-is": as_is}
    # Old messages that stay as they are stay as cached as they were.
    least = PERHAPS_CACHED_TOKENS if p.new_kept == p.new_tokens else SURELY_CACHED_TOKENS
    delay_new = _own_seconds(p.score_new, costs)
    saved_new = _prefill_seconds(p.new_tokens - p.new_kept, costs) - delay_new
    usd["new"] = (
        _cost(p, rates, p.old_tokens, p.old_tokens, p.new_kept, least)
        + p.score_new * costs.usd_per_scored_token
        - saved_new * costs.usd_per_second
    )
    score_all = p.score_new + p.score_old
    rewritten = p.old_kept - p.old_untouched
    # Old tokens that were cached cost no prefill; written anew they do.
    saved_all = (
        _prefill_seconds(p.new_tokens - p.new_kept_all, costs)
        + _prefill_seconds((1 - p.hit_rate) * (p.old_tokens - p.old_kept), costs)
        - _prefill_seconds(p.hit_rate * rewritten, costs)
        - _own_seconds(score_all, costs)
    )
    usd["all"] = (
        _cost(p, rates, p.old_untouched, p.old_kept, p.new_kept_all, SURELY_CACHED_TOKENS)
        + score_all * costs.usd_per_scored_token
        - saved_all * costs.usd_per_second
    )
    choice: Choice = "as-is"
    pays = p.new_kept < p.new_tokens and usd["new"] < as_is
    pays = pays and not (falls_below(p, rates) and saved_by_new(p, rates) <= 0)
    too_slow = pays and costs.slower_never and saved_new < 0
    if pays and not too_slow:
        choice = "new"
    if not (costs.slower_never and saved_all < 0) and (
        p.old_tokens - p.old_kept >= _COMPACTION_SHRINKS * p.old_tokens > 0
        and usd["all"] < usd[choice] - _COMPACTION_MARGIN * as_is
        and _pays_early(p, costs, usd, choice)
    ):
        choice = "all"
    seconds: dict[Choice, float] = {"as-is": 0.0, "new": saved_new, "all": saved_all}
    return Forecast(choice, as_is - usd[choice], usd, seconds, too_slow and choice == "as-is")


def falls_below(p: Prospect, rates: Rates) -> bool:
    """Whether a prompt that may be cached becomes too small for it once its new messages are shortened."""
    whole, shortened = p.old_tokens + p.new_tokens, p.old_tokens + p.new_kept
    return (
        rates.discounts
        and not rates.any_size
        and shortened < SURELY_CACHED_TOKENS
        and (p.new_kept < p.new_tokens and whole >= PERHAPS_CACHED_TOKENS)
    )


def saved_by_new(p: Prospect, rates: Rates) -> float:
    """USD of input that shortening the new messages saves if as many turns follow as do in the mean.

    The median that `turns_ahead` is would be none at a first turn, and so would what its successors lose.
    """
    mean = replace(p, turns_ahead=max(p.turns_ahead, p.further_turns), later_hit_rate=p.further_hit_rate)
    whole = _cost(mean, rates, p.old_tokens, p.old_tokens, p.new_tokens, PERHAPS_CACHED_TOKENS)
    return whole - _cost(mean, rates, p.old_tokens, p.old_tokens, p.new_kept, SURELY_CACHED_TOKENS)


def _pays_early(p: Prospect, costs: Costs, usd: dict[Choice, float], other: Choice) -> bool:
    """Whether a compaction is the cheaper choice of the two even if the conversation ends early."""

    def later(old: int, new: int, least: int) -> float:
        """USD of the turns that would not come then."""
        missing = (1 - _COMPACTION_PAYS_BY) * p.turns_ahead
        rates = costs.rates
        hit = p.later_hit_rate if rates.any_size or old + new >= least else 0.0
        return missing * (old + new) * (hit * rates.cache_read + (1 - hit) * rates.cache_write)

    new = p.new_tokens if other == "as-is" else p.new_kept
    least = PERHAPS_CACHED_TOKENS if new == p.new_tokens else SURELY_CACHED_TOKENS
    compacted = usd["all"] - later(p.old_kept, p.new_kept_all, SURELY_CACHED_TOKENS)
    return compacted < usd[other] - later(p.old_tokens, new, least)


def _cost(p: Prospect, rates: Rates, readable: int, old: int, new: int, least: int) -> float:
    """USD of the input now and in the turns ahead.

    `readable` of `old` tokens may be read from the cache; prompts below `least` are not cached.
    """
    least = 0 if rates.any_size else least
    cached = p.hit_rate * readable if readable >= least else 0.0
    now = cached * rates.cache_read + (old - cached + new) * rates.cache_write
    # Shortened below the least size that is cached, a prompt is paid in full at every turn.
    hit = p.later_hit_rate if old + new >= least else 0.0
    return now + p.turns_ahead * (old + new) * (hit * rates.cache_read + (1 - hit) * rates.cache_write)


def _prefill_seconds(tokens: float, costs: Costs) -> float:
    return tokens / costs.prefill_per_second


def _own_seconds(tokens: int, costs: Costs) -> float:
    return tokens / costs.scored_per_second if costs.scored_per_second > 0 else 0.0
