"""What the gateway tells its operators: Prometheus metrics and JSON log lines. No prompt text, no keys.

prometheus-client is imported when the metrics are made, not with this module: `terse serve` first names the
directory in which several workers share them (PROMETHEUS_MULTIPROC_DIR).
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from gateway.shapes import Receipt

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram

Ended = tuple[Receipt, int]  # a request that is over: its receipt, and how often its upstream was tried

_LOG_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Seconds. Overhead is promised in milliseconds, answers take up to minutes.
_OVERHEAD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ANSWER_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_MOST_MODELS = 200
_MOST_CHILDREN = 5000

_log = logging.getLogger("terse.request")


class Metrics:
    """Every metric of the gateway, in one registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter

        self.registry: CollectorRegistry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        self.requests = counter(
            "terse_requests_total", "Answered requests", "team", "route", "model", "surface", "status"
        )
        self.compressions = counter(
            "terse_compressions_total", "Requests by what compression did", "policy", "compression", "reason"
        )
        self.cache = counter("terse_score_cache_total", "Requests by state of the score cache", "state")
        self.prompt_tokens = counter(
            "terse_prompt_tokens_total", "Input tokens before and after shortening", "team", "model", "stage"
        )
        self.billed_tokens = counter(
            "terse_billed_tokens_total", "Tokens as the upstream billed them", "team", "model", "kind"
        )
        self.cost = counter("terse_cost_usd_total", "What requests cost, in USD", "team", "model")
        self.saved = counter("terse_saved_usd_total", "What shortening saved, in USD", "team", "model")
        self.lost = counter(
            "terse_lost_usd_total", "What shortening cost more than it saved", "team", "model"
        )
        self.answers = counter(
            "terse_compared_answers_total",
            "Answers of policies with a holdout, by arm: treated, holdout",
            *("team", "model", "policy", "arm"),
        )
        self.answer_tokens = counter(
            "terse_compared_answer_tokens_total",
            "Output tokens of these answers",
            *("team", "model", "policy", "arm"),
        )
        self.attempts = counter("terse_upstream_attempts_total", "Attempts, with retries", "upstream")
        self.failures = counter(
            "terse_failures_total", "Things that went wrong and were survived, by part", "part"
        )
        self.reloads = counter("terse_configuration_reloads_total", "Reloads by outcome", "outcome")
        self._children: dict[tuple[str, ...], _Children] = {}
        self._models: set[str] = set()
        self._add_timings()

    def _add_timings(self) -> None:
        from prometheus_client import Gauge, Histogram

        self.overhead = Histogram(
            "terse_overhead_seconds",
            "Time that Terse added before the request went upstream",
            ("compression",),
            buckets=_OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self.first_byte = Histogram(
            "terse_first_byte_seconds",
            "Time from the request to the first byte of the answer",
            ("model",),
            buckets=_ANSWER_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "terse_requests_in_flight",
            "Requests being answered now",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.waiting = Gauge(
            "terse_engine_waiting_tokens",
            "Encoder tokens that wait for scoring",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.engine_ready = Gauge(
            "terse_engine_ready",
            "1 while texts can be scored",
            registry=self.registry,
            multiprocess_mode="min",
        )

    def record(self, ended: Sequence[Ended]) -> None:
        """Counts requests: each counter is touched once for all that look alike, some microseconds each."""
        alike: dict[int, tuple[_Children, list[Ended]]] = {}
        for one in ended:
            to = self._children_of(one[0])
            alike.setdefault(id(to), (to, []))[1].append(one)
            to.overhead.observe(one[0].overhead_ms / 1000)
            if one[0].first_byte_ms:
                to.first_byte.observe(one[0].first_byte_ms / 1000)
        for to, group in alike.values():
            _count(to, group)

    def failed(self, part: str) -> None:
        """Counts one survived failure of `part`."""
        self.failures.labels(part).inc()

    def _children_of(self, receipt: Receipt) -> _Children:
        """The labelled children of requests like this one: looking each up takes a lock and a tuple."""
        key = (
            receipt.team,
            receipt.route,
            receipt.model,
            receipt.surface,
            str(receipt.status_code),
            receipt.policy,
            receipt.compression,
            receipt.skip_reason,
            receipt.cache,
            receipt.upstream,
            _compared_arm(receipt),
        )
        children = self._children.get(key)
        if children is None:
            if len(self._children) >= _MOST_CHILDREN:
                self._children.clear()
            children = self._children[key] = self._make_children(receipt)
        return children

    def _make_children(self, receipt: Receipt) -> _Children:
        team, model = receipt.team, self._model_label(receipt.model)
        status = str(receipt.status_code)
        arm = (team, model, receipt.policy, _compared_arm(receipt))
        return _Children(
            requests=self.requests.labels(team, receipt.route, model, receipt.surface, status),
            compressions=self.compressions.labels(receipt.policy, receipt.compression, receipt.skip_reason),
            cache=None if receipt.cache == "none" else self.cache.labels(receipt.cache),
            before=self.prompt_tokens.labels(team, model, "before"),
            after=self.prompt_tokens.labels(team, model, "after"),
            input=self.billed_tokens.labels(team, model, "input"),
            cached=self.billed_tokens.labels(team, model, "cached"),
            output=self.billed_tokens.labels(team, model, "output"),
            cost=self.cost.labels(team, model),
            saved=self.saved.labels(team, model),
            lost=self.lost.labels(team, model),
            answers=self.answers.labels(*arm) if arm[-1] else None,
            answer_tokens=self.answer_tokens.labels(*arm) if arm[-1] else None,
            attempts=self.attempts.labels(receipt.upstream),
            overhead=self.overhead.labels(receipt.compression),
            first_byte=self.first_byte.labels(model),
        )

    def _model_label(self, model: str) -> str:
        """Under a glob clients may invent names; beyond some hundred they are one series."""
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            return "other"
        self._models.add(model)
        return model


@dataclass(frozen=True, slots=True)
class _Children:
    """Where requests of one kind are counted."""

    requests: Counter
    compressions: Counter
    cache: Counter | None
    before: Counter
    after: Counter
    input: Counter
    cached: Counter
    output: Counter
    cost: Counter
    saved: Counter
    lost: Counter
    answers: Counter | None
    answer_tokens: Counter | None
    attempts: Counter
    overhead: Histogram
    first_byte: Histogram


def _count(to: _Children, group: Sequence[Ended]) -> None:
    """Adds up requests that are counted in the same places."""
    receipts = [receipt for receipt, _ in group]
    usages = [receipt.usage for receipt in receipts]
    saved = [receipt.saved_usd for receipt in receipts]
    sums = (
        (to.requests, len(receipts)),
        (to.compressions, len(receipts)),
        (to.cache, len(receipts)),
        (to.before, sum(receipt.tokens_before for receipt in receipts)),
        (to.after, sum(receipt.tokens_after for receipt in receipts)),
        (to.input, sum(usage.input_tokens for usage in usages)),
        (to.output, sum(usage.output_tokens for usage in usages)),
        (to.cached, sum(usage.cached_input_tokens for usage in usages)),
        (to.cost, math.fsum(max(receipt.cost_usd, 0.0) for receipt in receipts)),
        (to.saved, math.fsum(usd for usd in saved if usd > 0)),
        (to.lost, math.fsum(-usd for usd in saved if usd < 0)),
        (to.answers, len(receipts)),
        (to.answer_tokens, sum(usage.output_tokens for usage in usages)),
        (to.attempts, sum(attempts for _, attempts in group)),
    )
    for counter, amount in sums:
        if counter is not None and amount:
            counter.inc(amount)


def _compared_arm(receipt: Receipt) -> str:
    """The arm of an answer whose length is known."""
    known = receipt.outcome == "ok" and receipt.status_code == 200 and not receipt.usage.estimated
    return receipt.arm if known else ""


@lru_cache(maxsize=1)
def _restarts() -> Counter:
    from prometheus_client import CollectorRegistry, Counter

    text = "Times that the compressor process shared by several workers was started again"
    return Counter("terse_compressor_restarts_total", text, registry=CollectorRegistry())


def count_restart() -> None:
    """Counts a new start of the compressor that the workers share, on the metrics page that they share."""
    _restarts().inc()


def render_metrics(metrics: Metrics, shared_directory: str) -> tuple[bytes, str]:
    """The page of `/metrics` and its content type; with a directory, over all workers."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    if not shared_directory:
        return generate_latest(metrics.registry), CONTENT_TYPE_LATEST
    registry = CollectorRegistry()
    MultiProcessCollector(registry, shared_directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the `fields` of the record.

    A record with `each`, fields of several things of one kind, is as many lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        each = getattr(record, "each", None)
        if each is not None:
            return b"\n".join([orjson.dumps({**line, **fields}, default=str) for fields in each]).decode()
        line.update(getattr(record, "fields", ()))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(level: str) -> None:
    """JSON lines on stderr for the whole process. Raises ValueError for an unknown level."""
    if level not in _LOG_LEVELS:
        raise ValueError(f"TERSE_LOG_LEVEL: expected one of {', '.join(_LOG_LEVELS)}, got {level!r}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LOG_LEVELS[level])
    # Their debug lines hold headers and bodies.
    for name in ("aiohttp", "asyncio", "httpx", "httpcore", "openai", "LiteLLM", "watchfiles"):
        logging.getLogger(name).setLevel(max(_LOG_LEVELS[level], logging.WARNING))


def log_requests(ended: Sequence[Ended]) -> None:
    """One line a request, all in one write: everything an operator asks for, nothing a client wrote."""
    if not ended or not _log.isEnabledFor(logging.INFO):
        return
    record = {"name": _log.name, "levelno": logging.INFO, "levelname": "INFO", "msg": "request"}
    each = [_fields_of(receipt, attempts) for receipt, attempts in ended]
    _log.handle(logging.makeLogRecord({**record, "each": each}))


def _fields_of(receipt: Receipt, attempts: int) -> dict[str, Any]:
    usage = receipt.usage
    return {
        "at": receipt.at,
        "request_id": receipt.request_id,
        "team": receipt.team,
        "key": receipt.key_id[:12],
        "route": receipt.route,
        "policy": receipt.policy,
        "model": receipt.model,
        "upstream": receipt.upstream,
        "surface": receipt.surface,
        "status": receipt.status_code,
        "outcome": receipt.outcome,
        "stream": receipt.stream,
        "compression": receipt.compression,
        "skip_reason": receipt.skip_reason,
        "cache": receipt.cache,
        "tokens_before": receipt.tokens_before,
        "tokens_after": receipt.tokens_after,
        "compressible_tokens": receipt.compressible_tokens,
        "earlier_tokens": receipt.earlier_tokens,
        "steps": receipt.steps,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": receipt.cost_usd,
        "saved_usd": receipt.saved_usd,
        "output_usd": receipt.output_usd,
        "arm": receipt.arm,
        "overhead_ms": round(receipt.overhead_ms, 3),
        "upstream_ms": round(receipt.upstream_ms, 3),
        "first_byte_ms": round(receipt.first_byte_ms, 3),
        "attempts": attempts,
    }
