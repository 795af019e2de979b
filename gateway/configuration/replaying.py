"""`terse policy replay`: what a configuration would have done to traffic that a gateway has logged.

Reads receipts: the gateway's own JSON log (lines with `"message": "request"`), or an export of the books'
receipts, as JSON lines or as one JSON array. No prompt is needed, and none is there.

Each line is planned as it stands, on the tokens that could be shortened when it came. What that saves again
in later turns of the conversation, which send the shortened form once more, is not counted: a lower bound.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import orjson

from gateway.accounting.prices import Prices
from gateway.config import Config, ModelConfig
from gateway.configuration.connections import model_named
from gateway.shapes import Price
from policies.errors import PolicyError
from policies.match import PolicyBook
from policies.planning import draw_of, plan_budget, plan_turn
from policies.shapes import Budget, ClientWish, Plan, Policy, RequestFacts, Team

_PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
# Receipts of calls that the gateway made by itself, or that were never answered.
_NOT_TRAFFIC = frozenset({"shadow", "judge"})
_LARGEST_ARRAY = 512 * 1024 * 1024  # bytes of an export that must be held as one array


@dataclass(frozen=True, slots=True)
class Past:
    """One logged request."""

    at: datetime
    request_id: str
    team: str
    model: str
    surface: str
    tokens: int
    compressible: int | None  # None: nobody looked (the policy was off, or the log is older)
    earlier: int  # compressible tokens of messages that were sent before
    cached_share: float  # of the input, read from the upstream's prompt cache
    cost_usd: float


@dataclass(slots=True)
class Sums:
    """What one policy, or all of them, would have done."""

    requests: int = 0
    shortened: int = 0
    audited: int = 0
    tokens_before: int = 0
    tokens_saved: int = 0
    usd_saved: float = 0.0
    usd_logged: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Replay:
    """The whole outcome. `assumed` requests had no count of compressible tokens, `unpriced` no price."""

    total: Sums = field(default_factory=Sums)
    policies: dict[str, Sums] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    assumed: int = 0
    unpriced: int = 0
    unknown_models: dict[str, int] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)  # line numbers, the first ones
    unreadable_count: int = 0


@dataclass(slots=True)
class _Spending:
    """What a team would have spent in the current period of each of its budgets."""

    team: Team
    starts: dict[int, datetime] = field(default_factory=dict)
    spent: dict[int, float] = field(default_factory=dict)

    def share(self, at: datetime) -> float:
        shares = [0.0]
        for index, budget in enumerate(self.team.budgets):
            start = _period_start(budget, at)
            if self.starts.get(index) != start:
                self.starts[index], self.spent[index] = start, 0.0
            limit = budget.usd if budget.usd is not None else budget.tokens
            shares.append(self.spent[index] / limit if limit else 0.0)
        return max(shares)

    def add(self, usd: float, tokens: int) -> None:
        for index, budget in enumerate(self.team.budgets):
            self.spent[index] = self.spent.get(index, 0.0) + (usd if budget.usd is not None else tokens)


def read_log(file: str, replay: Replay) -> Iterator[Past]:
    """The requests of a log (`.gz` too), in its order. Raises PolicyError when the file cannot be read."""
    path = Path(file)
    try:
        with _opened(path) as lines:
            for number, line in enumerate(_entries(lines, path), start=1):
                past = _past(line)
                if past is not None:
                    yield past
                elif line.strip() and not _is_other_line(line):
                    replay.unreadable_count += 1
                    if len(replay.unreadable) < 5:
                        replay.unreadable.append(number)
    except (OSError, EOFError) as error:
        raise PolicyError(getattr(error, "strerror", None) or str(error), file=file) from None


def replay_traffic(
    config: Config,
    traffic: Iterable[Past],
    replay: Replay,
    *,
    compressible_share: float,
    prices: Prices | None = None,
) -> Replay:
    """Plans every request under `config` and adds it to `replay`.

    `compressible_share` stands in where the log does not say how many tokens could be shortened.
    """
    book = PolicyBook(config.policies, config.routes)
    prices = prices or Prices()
    spending: dict[str, _Spending] = {}
    for past in traffic:
        model = model_named(past.model, config.models)
        if model is None:
            replay.unknown_models[past.model] = replay.unknown_models.get(past.model, 0) + 1
            continue
        if past.compressible is None:
            replay.assumed += 1
            past = replace(past, compressible=round(past.tokens * compressible_share), earlier=0)
        price = prices.of(_named(model, past.model), config.upstreams[model.upstream])
        replay.unpriced += not price.known
        team = config.teams.get(past.team) or Team(past.team)
        spent = spending.setdefault(past.team, _Spending(team))
        policy = book.match(RequestFacts(past.model, past.team, _PATHS[past.surface])).policy
        plan = _plan(policy, past, price, spent)
        saved = plan.compressible - plan.target if plan.compress else 0
        usd = saved * _price_of_a_token(price, past.cached_share)
        if plan.mode == "on":
            spent.add(max(0.0, past.cost_usd - usd), past.tokens - saved)
        else:
            spent.add(past.cost_usd, past.tokens)
        _note(replay, policy.name, past, plan, saved, usd)
    return replay


def _plan(policy: Policy, past: Past, price: Price, spent: _Spending) -> Plan:
    def plan(compressible: int, total: int) -> Plan:
        return plan_budget(
            policy,
            compressible_tokens=compressible,
            total_tokens=total,
            wish=ClientWish(),
            spent_share=spent.share(past.at),
            pressure=spent.team.pressure,
            context_window=price.context_window,
            draw=draw_of(past.request_id),
            at=past.at,
        )

    new = min(past.compressible or 0, past.tokens)
    earlier = min(past.earlier, past.tokens - new)
    trigger = policy.trigger_tokens
    return plan_turn(plan, new=new, earlier=earlier, total=past.tokens, trigger_tokens=trigger)


def replay_as_data(replay: Replay) -> dict[str, Any]:
    """For `--json`."""
    return {
        "first": replay.first,
        "last": replay.last,
        "total": _sums_as_data(replay.total),
        "policies": {name: _sums_as_data(sums) for name, sums in sorted(replay.policies.items())},
        "assumed_compressible": replay.assumed,
        "unpriced": replay.unpriced,
        "unknown_models": replay.unknown_models,
        "unreadable_lines": replay.unreadable_count,
    }


def _sums_as_data(sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "shortened": sums.shortened,
        "audited": sums.audited,
        "tokens_before": sums.tokens_before,
        "tokens_after": sums.tokens_before - sums.tokens_saved,
        "tokens_saved": sums.tokens_saved,
        "logged_usd": round(sums.usd_logged, 6),
        "saved_usd": round(sums.usd_saved, 6),
        "reasons": sums.reasons,
    }


def _note(replay: Replay, policy: str, past: Past, plan: Plan, saved: int, usd: float) -> None:
    at = past.at.isoformat(timespec="seconds")
    replay.first, replay.last = min(replay.first or at, at), max(replay.last, at)
    reason = plan.reason or ("audit" if plan.mode == "audit" else "shortened")
    for sums in (replay.total, replay.policies.setdefault(policy, Sums())):
        sums.requests += 1
        sums.shortened += plan.compress and plan.mode == "on"
        sums.audited += plan.compress and plan.mode == "audit"
        sums.tokens_before += past.tokens
        sums.usd_logged += past.cost_usd
        sums.reasons[reason] = sums.reasons.get(reason, 0) + 1
        sums.tokens_saved += saved
        sums.usd_saved += usd


def _named(model: ModelConfig, name: str) -> ModelConfig:
    """Under a glob, prices go by the client's name."""
    return model if model.model else replace(model, model=name)


def _price_of_a_token(price: Price, cached_share: float) -> float:
    """A token that is not sent saves what the average token of this request cost."""
    read = price.cache_read or price.input
    return price.input * (1 - cached_share) + read * cached_share


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _entries(lines: Any, path: Path) -> Iterator[bytes]:
    """The lines; of one JSON array its elements."""
    first = lines.readline()
    if first.lstrip()[:1] != b"[":
        yield first
        yield from lines
        return
    data = first + lines.read(_LARGEST_ARRAY)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise PolicyError("expected JSON lines, or one JSON array of receipts", file=str(path)) from None
    for entry in value:
        yield orjson.dumps(entry)


def _past(line: bytes) -> Past | None:
    """The request on one line; None for anything else."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or entry.get("outcome") in _NOT_TRAFFIC:
        return None
    if not {"at", "team", "model", "surface", "tokens_before"} <= entry.keys():
        return None
    if entry["surface"] not in _PATHS:
        return None
    try:
        at = datetime.fromisoformat(str(entry["at"]))
        tokens, billed = _count(entry, "tokens_before"), _count(entry, "input_tokens")
        compressible, earlier = _count(entry, "compressible_tokens"), _count(entry, "earlier_tokens")
        return Past(
            at=at if at.tzinfo else at.replace(tzinfo=UTC),
            request_id=str(entry.get("request_id", "")),
            team=str(entry["team"]),
            model=str(entry["model"]),
            surface=str(entry["surface"]),
            tokens=tokens,
            # Nothing new beside something earlier was looked at; nothing at all was not.
            compressible=compressible if compressible or earlier else None,
            earlier=earlier,
            cached_share=min(1.0, _count(entry, "cached_input_tokens") / billed) if billed else 0.0,
            cost_usd=float(entry.get("cost_usd") or 0.0),
        )
    except (ValueError, TypeError):
        return None


def _count(entry: Mapping[str, Any], name: str) -> int:
    return max(0, int(entry.get(name) or 0))


def _is_other_line(line: bytes) -> bool:
    """A good line that is about something else: another log message, an embedding, a shadow call."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(entry, dict):
        return False
    if entry.get("outcome") in _NOT_TRAFFIC or entry.get("surface") == "embeddings":
        return True
    return "message" in entry and entry["message"] != "request"


def _period_start(budget: Budget, at: datetime) -> datetime:
    """The calendar period (UTC) that a moment lies in; sliding windows are taken as calendar ones."""
    at = at.astimezone(UTC).replace(second=0, microsecond=0)
    if budget.per == "minute":
        return at
    hour = at.replace(minute=0)
    if budget.per == "hour":
        return hour
    day = hour.replace(hour=0)
    if budget.per == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if budget.per == "month" else day
