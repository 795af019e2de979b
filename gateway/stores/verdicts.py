"""What a ledger says to one request: how much is left, or which limit refused it and when it will pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.errors import BudgetExceeded, GatewayError, RateLimited
from gateway.stores.base import Room

Reason = Literal["requests", "tokens", "concurrent", "usd-budget", "token-budget"]
NEVER_FITS: Final = -1
# OpenAI's clients obey a `retry-after` of up to a minute; beyond that an automatic retry is of no use.
PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit a minute: the limit, what is left of it, and the seconds until all of it is left."""

    limit: int
    left: int
    reset: int


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account after the decision."""

    id: str
    requests: Rate | None = None
    tokens: Rate | None = None
    share: float = 0.0  # of its fullest budget, spent and held
    room: Room = field(default_factory=Room)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one account refused. `wait` in seconds, or NEVER_FITS; money in micro-USD."""

    reason: Reason
    account: str
    limit: int
    used: int
    need: int
    wait: int
    per: str = "minute"


def rate_headers(states: Sequence[AccountState]) -> dict[str, str]:
    """`x-ratelimit-*` of the account that has least left, in OpenAI's format (`reset` as `12s` or `1m5s`)."""
    headers: dict[str, str] = {}
    for name, rates in (
        ("requests", [state.requests for state in states if state.requests]),
        ("tokens", [state.tokens for state in states if state.tokens]),
    ):
        if rates:
            tightest = min(rates, key=lambda rate: (rate.left, rate.limit))
            headers[f"x-ratelimit-limit-{name}"] = str(tightest.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(tightest.left)
            headers[f"x-ratelimit-reset-{name}"] = duration(tightest.reset)
    return headers


def duration(seconds: int) -> str:
    """`0s`, `12s`, `1m5s`, `2h0m3s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def shares_of(states: Sequence[AccountState]) -> dict[str, float]:
    """Account id to the share of its fullest budget."""
    return {state.id: state.share for state in states}


def rooms_of(states: Sequence[AccountState]) -> dict[str, Room]:
    """Account id to what its budgets still allow."""
    return {state.id: state.room for state in states}


def error_of(refusals: Sequence[Refusal], states: Sequence[AccountState]) -> GatewayError:
    """The error of the refusal that lasts longest: when its time is over, the request passes."""
    worst = max(refusals, key=lambda refusal: float("inf") if refusal.wait == NEVER_FITS else refusal.wait)
    headers: dict[str, str] = dict(rate_headers(states))
    headers.update(_retry_headers(worst.wait))
    message = _sentence(worst)
    if worst.reason in ("usd-budget", "token-budget"):
        return BudgetExceeded(message, headers=headers)
    return RateLimited(message, headers=headers)


def _retry_headers(wait: int) -> Mapping[str, str]:
    if wait == NEVER_FITS:
        return {"x-should-retry": "false"}
    headers = {"retry-after": str(wait)}
    if wait > PATIENCE_SECONDS:
        headers["x-should-retry"] = "false"
    return headers


def _sentence(refusal: Refusal) -> str:
    party = refusal.account.replace(":", " ", 1)
    if party.startswith("key "):
        party = "key " + party[4:16]
    if refusal.reason == "usd-budget":
        what = (
            f"budget of ${usd(refusal.limit)} per {refusal.per} of {party}: "
            f"${usd(refusal.used)} is spent or held, this request may cost ${usd(refusal.need)}"
        )
    elif refusal.reason == "token-budget":
        what = (
            f"budget of {refusal.limit} tokens per {refusal.per} of {party}: "
            f"{refusal.used} are spent or held, this request may take {refusal.need}"
        )
    elif refusal.reason == "concurrent":
        what = f"{party} has {refusal.used} requests running and may have {refusal.limit}"
    else:
        what = (
            f"{party} may use {refusal.limit} {refusal.reason} per minute: "
            f"{refusal.used} in the last minute, this request takes {refusal.need}"
        )
    if refusal.wait == NEVER_FITS:
        return f"Over the limit for good: {what}, more than the whole limit."
    return f"Over the limit: {what}. Try again in {duration(refusal.wait)}."


def usd(micro: int) -> str:
    """Micro-USD as dollars with as many digits as it needs, two at least."""
    text = f"{micro / 1_000_000:.6f}".rstrip("0")
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits:0<2}"
