"""Receipts: what a request cost, what it would have cost uncompressed, and what was saved; less than nothing
at times.

The counterfactual is the same request with the prompt cache that it would have had. Where shortening broke a
prefix that the upstream had cached, or made a prompt too small to be cached, the bill shows it and the
counterfactual does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.compression.planner import LEAST_CACHED_TOKENS
from gateway.shapes import Caller, Compressed, ParsedRequest, Price, Receipt, Usage
from policies import Match

NOTHING_USED = Usage()
# OpenAI's automatic cache reads in steps of 128 tokens, DeepSeek's of 64; as much again for counts that
# differ by a few tokens a message.
_CACHE_STEP = 256
_MOST_FINER = 2.0  # tokens of another tokenizer for one of ours


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it."""

    request_id: str
    request: ParsedRequest
    caller: Caller
    match: Match
    compressed: Compressed
    upstream: str
    price: Price
    status_code: int
    upstream_ms: float
    first_byte_ms: float
    outcome: str = "ok"  # ok, upstream-error, client-left, ...
    arm: str = ""  # of the comparison with the policy's holdout
    additional: Usage = NOTHING_USED  # of calls that are not the client's: rounds of terse_retrieve


def write_receipt(exchange: Exchange, usage: Usage) -> Receipt:
    """The receipt of one exchange, at this moment."""
    compressed, request = exchange.compressed, exchange.request
    billed = cost_of(usage, exchange.price)
    # What was never billed (an upstream's error) would not have been billed uncompressed either.
    own = without(usage, exchange.additional)
    full = cost_of(uncompressed_usage(compressed, own), exchange.price) if usage.input_tokens else billed
    return Receipt(
        request_id=exchange.request_id,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        team=exchange.caller.team.name,
        key_id=exchange.caller.key_id,
        route=exchange.match.route,
        policy=exchange.match.policy.name,
        model=request.model,
        upstream=exchange.upstream,
        surface=request.surface,
        status_code=exchange.status_code,
        compression=compressed.status,
        skip_reason=compressed.skip_reason,
        cache=compressed.cache,
        tokens_before=compressed.tokens_before,
        tokens_after=compressed.tokens_after,
        usage=usage,
        cost_usd=billed,
        counterfactual_usd=full,
        saved_usd=full - billed,
        overhead_ms=compressed.overhead_ms,
        upstream_ms=exchange.upstream_ms,
        first_byte_ms=exchange.first_byte_ms,
        stream=request.stream,
        match=exchange.match.reason,
        outcome=exchange.outcome,
        holdout=compressed.plan.reason == "holdout",
        frozen_messages=compressed.frozen_messages,
        broken_prefix_tokens=compressed.broken_prefix_tokens,
        compacted=compressed.compacted,
        steps="; ".join(compressed.plan.steps),
        compressible_tokens=compressed.plan.compressible,
        earlier_tokens=compressed.plan.earlier,
        arm=exchange.arm,
        output_usd=usage.output_tokens * exchange.price.output,
    )


def without(usage: Usage, additional: Usage) -> Usage:
    """The usage less what was billed for calls that the client did not make."""
    if additional == NOTHING_USED:
        return usage
    return replace(
        usage,
        input_tokens=max(0, usage.input_tokens - additional.input_tokens),
        cached_input_tokens=max(0, usage.cached_input_tokens - additional.cached_input_tokens),
        cache_write_tokens=max(0, usage.cache_write_tokens - additional.cache_write_tokens),
        output_tokens=max(0, usage.output_tokens - additional.output_tokens),
    )


def cost_of(usage: Usage, price: Price) -> float:
    """USD of one request. A cache price that is not known is that of plain input."""
    read, write = price.cache_read or price.input, price.cache_write or price.input
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    plain = usage.input_tokens - cached - written
    return plain * price.input + cached * read + written * write + usage.output_tokens * price.output


def uncompressed_usage(compressed: Compressed, usage: Usage) -> Usage:
    """What the upstream would have reported for the client's own bytes: more input, the same output.

    What cannot be known is taken against us: the sum of many receipts is a little below what was saved.
    """
    if compressed.tokens_before == compressed.tokens_after and not compressed.broken_prefix_tokens:
        return usage
    scale = _scale(compressed, usage)
    total = usage.input_tokens + round((compressed.tokens_before - compressed.tokens_after) * scale)
    cached = min(total, _cached_uncompressed(compressed, usage, scale))
    written = 0
    if usage.cache_write_tokens:  # all that is not read is written, but for what the bill shows as neither
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        written = max(0, total - cached - plain)
    elif usage.input_tokens < LEAST_CACHED_TOKENS <= total and compressed.is_marked:
        written = total - cached  # marked by the client, and only shortened too small to be written
    return Usage(
        input_tokens=total,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated=usage.estimated,
        cache_reported=usage.cache_reported,
    )


def _scale(compressed: Compressed, usage: Usage) -> float:
    """Billed tokens a counted token of text.

    A bill holds more than text: templates, ids of tool calls, images. Where the tokenizer is known, a bill
    over our count shows those, and nothing of the text that was left out. Where it is not, what the model's
    earlier bills have taught counts, and before the first of them this bill alone.
    """
    if compressed.billed_per_token is not None:
        return compressed.billed_per_token
    text = usage.input_tokens
    if compressed.untold_tokens is not None:
        text -= min(compressed.untold_tokens, text // 2)
    scale = min(_MOST_FINER, max(0.5, text / max(1, compressed.tokens_after)))
    if scale <= 1:
        return scale
    # What was left out need not be as fine as what stayed: half of the difference is sure enough to claim.
    return 1.0 if compressed.untold_tokens is None else (1 + scale) / 2


def _cached_uncompressed(compressed: Compressed, usage: Usage, scale: float) -> int:
    """Tokens that the upstream would have read from its cache, had the conversation never been shortened."""
    # What is billed beside the text stands in the prefix as in the rest.
    beside = max(0.0, usage.input_tokens - compressed.tokens_after * scale)
    beside *= compressed.prefix_original_tokens / max(1, compressed.tokens_before)
    sent = compressed.prefix_tokens * scale + beside
    original = compressed.prefix_original_tokens * scale + beside
    told = usage.cached_input_tokens
    if not usage.cache_reported:
        return told  # an upstream that says nothing of a cache is billed here as if it had none, either way
    within = min(told, sent)
    if within > 0 and not compressed.broken_prefix_tokens:
        # Caches read in steps: what is lost to the last one is lost once, however long the prefix is.
        missed = sent - within
        share = 1.0 if missed <= _CACHE_STEP else (within + _CACHE_STEP) / sent
        return round(max(told, share * original - min(missed, _CACHE_STEP) + told - within))
    if original < LEAST_CACHED_TOKENS:
        return told  # no conversation before this request: what was read is what all requests share
    # Where the bill cannot show it, what was likely cached counts as cached, against us.
    expected = original if compressed.prefix_hit_rate > 0.5 else compressed.prefix_hit_rate * original
    if compressed.broken_prefix_tokens or sent < LEAST_CACHED_TOKENS:
        return round(max(told, expected))
    return told


def receipt_headers(
    compressed: Compressed, *, policy: str, receipt: Receipt | None = None, price: Price | None = None
) -> dict[str, str]:
    """The `x-terse-*` headers of a reply.

    With the receipt the figures are those billed. Streams send their headers before anything is billed:
    without a receipt, cost and saving are those of the input alone at this price, and `x-terse-estimated`
    says so.
    """
    headers = {
        "x-terse-tokens-before": str(compressed.tokens_before),
        "x-terse-tokens-after": str(compressed.tokens_after),
        "x-terse-tokens-saved": str(compressed.tokens_before - compressed.tokens_after),
        "x-terse-compression": compressed.status,
        "x-terse-cache": compressed.cache,
        # A policy's name may hold any letter; a header may not.
        "x-terse-policy": policy if policy.isascii() else policy.encode("ascii", "replace").decode(),
        "x-terse-overhead-ms": f"{compressed.overhead_ms:.1f}",
    }
    if compressed.skip_reason:
        headers["x-terse-skip-reason"] = compressed.skip_reason
    if receipt is not None:
        headers["x-terse-cost-usd"] = _dollars(receipt.cost_usd)
        headers["x-terse-saved-usd"] = _dollars(receipt.saved_usd)
    elif price is not None:
        cached = round(compressed.prefix_hit_rate * compressed.prefix_tokens)
        usage = Usage(compressed.tokens_after, cached, cache_reported=True)
        cost = cost_of(usage, price)
        headers["x-terse-cost-usd"] = _dollars(cost)
        headers["x-terse-saved-usd"] = _dollars(cost_of(uncompressed_usage(compressed, usage), price) - cost)
        headers["x-terse-estimated"] = "true"
    return headers


def _dollars(amount: float) -> str:
    return f"{amount:.8f}"
