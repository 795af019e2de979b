"""Compression as a service: headroom's `/v1/compress`, Kong's `/llm/v1/compressPrompt`, and a preview.

Nothing here reaches an upstream, and nothing is billed; a key is needed all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compressor.compress import Compressor
from compressor.errors import BudgetTooSmall, CompressorError, InvalidBudget, InvalidOption, InvalidText
from compressor.options import CompressOptions
from compressor.shapes import Shortened
from compressor.text.tokens import counter_for
from gateway.accounting.receipts import receipt_headers
from gateway.api.receiving import receive_request, request_id_of
from gateway.chat.lenient_json import write_json
from gateway.chat.request import parse_request, read_object
from gateway.config import ModelConfig
from gateway.errors import BadRequest, GatewayError, NotFound, Unavailable
from gateway.exchange import Received
from gateway.pipeline import facts_of, without_secrets
from gateway.services import Live, Services
from gateway.shapes import Caller

_WRONG_REQUEST = (InvalidText, InvalidBudget, InvalidOption, BudgetTooSmall)
_PREVIEW_OPTIONS = tuple(
    CompressOptions.__annotations__.keys() - {"explain", "compat", "llmlingua", "tokenizer"}
)


async def compress(request: Request) -> Response:
    """Messages in; as many messages out, with the same roles, shortened as the policy of this path says."""
    received, caller = await _receive(request)
    services: Services = request.state.services
    live = services.live
    parsed = parse_request("chat", received.path, received.body, without_secrets(received.named))
    model = _model(parsed.model, live)
    match = live.policies.match(facts_of(parsed, caller))
    spent = await live.admission.pressure(caller, match, model)
    compressed = await services.shortener.shorten(
        parsed, caller, match, model=model, price=live.price_of(model), spent=spent
    )
    messages = read_object(compressed.body)["messages"]
    before, after = compressed.tokens_before, compressed.tokens_after
    frozen = _frozen(parsed.raw)
    if frozen:
        counter = counter_for(model.tokenizer or model.model or parsed.model)
        kept = [
            counter.count_many([_text_of(m) for m in part[:frozen]])
            for part in (parsed.raw["messages"], messages)
        ]
        after += sum(kept[0]) - sum(kept[1])
        messages[:frozen] = parsed.raw["messages"][:frozen]
    body = {
        "messages": messages,
        "tokens_before": before,
        "tokens_after": after,
        "tokens_saved": before - after,
        "compression_ratio": round(after / before, 4) if before else 1.0,
        "transforms_applied": [f"terse:{match.policy.name}"] if after < before else [],
        "ccr_hashes": [],
    }
    own = receipt_headers(compressed, policy=match.policy.name)
    return _json(body, {"x-request-id": received.request_id, **own})


def _model(name: str, live: Live) -> ModelConfig:
    """The model asked for; one that is not ours is only counted for, never called."""
    try:
        return live.directory.find(name)
    except NotFound:
        return ModelConfig(name=name, upstream=next(iter(live.config.upstreams)), model=name)


def _frozen(given: Mapping[str, Any]) -> int:
    """How many messages at the front must come back as they are (headroom's `frozen_message_count`)."""
    config = given.get("config")
    count = config.get("frozen_message_count", 0) if isinstance(config, dict) else 0
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        where = "config.frozen_message_count"
        raise BadRequest(f"{where}: expected a number of messages", param=where)
    return count


def _text_of(message: Mapping[str, Any]) -> str:
    return write_json(message.get("content")).decode()


async def compress_prompt(request: Request) -> Response:
    """Kong's compressor service: texts with ranges of tokens, each with a share to keep or a target.

    Kong documents the request and the figures it logs, not the reply: each text comes back with those.
    """
    received, _caller = await _receive(request)
    given = read_object(received.body)
    texts, by_target = given.get("text"), given.get("compress_type", "rate") == "target_token"
    if not isinstance(texts, list) or not all(
        isinstance(t, dict) and isinstance(t.get("text"), str) for t in texts
    ):
        raise BadRequest("text: expected a list of {msg_id, text}", param="text")
    ranges = given.get("compress_ranges", [])
    if not isinstance(ranges, list) or not all(isinstance(r, dict) for r in ranges):
        raise BadRequest(
            "compress_ranges: expected a list of {min_tokens, max_tokens, value}", param="compress_ranges"
        )
    name = str(given.get("model_name") or "o200k_base")
    services: Services = request.state.services
    compressor = Compressor(services.engine, tokenizer="o200k_base")
    results = [await _one_prompt(compressor, text, ranges, by_target=by_target) for text in texts]
    body = {"text": results, "model_name": name, "compress_type": "target_token" if by_target else "rate"}
    return _json(body, {"x-request-id": received.request_id})


async def _one_prompt(
    compressor: Compressor, text: Mapping[str, Any], ranges: Sequence[Mapping[str, Any]], *, by_target: bool
) -> dict[str, Any]:
    tokens = counter_for("o200k_base").count(text["text"])
    value = _value_for(tokens, ranges)
    shortened, information = text["text"], "no range holds this many tokens"
    after = tokens
    if value is not None:
        options: dict[str, Any] = {"target_tokens": round(value)} if by_target else {"keep": value}
        information = "compressed"
        try:
            done = await compressor.acompress(text["text"], **cast(CompressOptions, options))
        except BudgetTooSmall as error:
            # Kong's plugin knows no refusal: what must stay stays, and the figures show it.
            target = (options.get("target_tokens") or int(tokens * value)) + error.short_by
            done = await _compressed(compressor, text["text"], {"target_tokens": target})
            information = "compressed less than asked: numbers, names and the like stay"
        except CompressorError as error:
            raise as_gateway_error(error) from error
        shortened, after = done.text, done.tokens_after
    return {
        "msg_id": text.get("msg_id"),
        "text": shortened,
        "original_token_count": tokens,
        "compress_token_count": after,
        "save_token_count": tokens - after,
        "compress_value": value,
        "information": information,
    }


def _value_for(tokens: int, ranges: Sequence[Mapping[str, Any]]) -> float | None:
    for one in ranges:
        try:
            low, high = float(one.get("min_tokens", 0)), float(one.get("max_tokens", "inf"))
            value = float(one["value"])
        except (KeyError, TypeError, ValueError):
            raise BadRequest(
                "compress_ranges: expected numbers in min_tokens, max_tokens and value",
                param="compress_ranges",
            ) from None
        if low <= tokens <= high:
            return value
    return None


async def preview(request: Request) -> Response:
    """Every word of a text, or of each text of a conversation: its score, whether it stays, and why."""
    received, _caller = await _receive(request)
    given = read_object(received.body)
    content = given.get("text", given.get("messages"))
    if not isinstance(content, str) and not isinstance(content, list):
        raise BadRequest("text or messages: expected a string, or a list of messages", param="text")
    options = {name: given[name] for name in _PREVIEW_OPTIONS if given.get(name) is not None}
    options |= {"explain": True, "tokenizer": given.get("tokenizer") or given.get("model") or "o200k_base"}
    services: Services = request.state.services
    compressor = Compressor(services.engine)
    done = await _compressed(compressor, content, options)
    if isinstance(content, str):
        body = {**_figures(done), "text": done.text, "words": _words(content, done)}
    else:
        texts = [{**_figures(part), "text": part.text, "words": _words(None, part)} for part in done.parts]
        body = {**_figures(done), "messages": done.messages, "parts": texts}
    return _json(body, {"x-request-id": received.request_id})


def _figures(done: Any) -> dict[str, Any]:
    return {
        "tokens_before": done.tokens_before,
        "tokens_after": done.tokens_after,
        "tokenizer": done.tokenizer,
    }


def _words(text: str | None, done: Shortened) -> list[dict[str, Any]]:
    words = []
    for decision in done.decisions:
        span = decision.span
        word: dict[str, Any] = {
            "start": span.start,
            "end": span.end,
            "score": round(decision.score, 4),
            "kept": decision.kept,
            "reason": decision.reason,
        }
        if text is not None:
            word["text"] = text[span.start : span.end]
        words.append(word)
    return words


async def _compressed(compressor: Compressor, content: Any, options: Mapping[str, Any]) -> Any:
    """Calls the library; its errors become ours."""
    try:
        return await compressor.acompress(content, **cast(CompressOptions, dict(options)))
    except CompressorError as error:
        raise as_gateway_error(error) from error


def as_gateway_error(error: CompressorError) -> GatewayError:
    """400 for what the caller can change, 503 for an engine that cannot score now."""
    if isinstance(error, _WRONG_REQUEST):
        return BadRequest(str(error), code="invalid_option")
    return Unavailable(str(error), code="compressor_unavailable", headers={"retry-after": "1"})


async def _receive(request: Request) -> tuple[Received, Caller]:
    services: Services = request.state.services
    received = await receive_request(
        "chat",
        request.scope,
        request.receive,
        request_id_of(request.scope["headers"]),
        services.settings.max_body_bytes,
    )
    return received, await services.live.callers.authenticate(received.named)


def _json(value: Any, headers: Mapping[str, str]) -> Response:
    return Response(write_json(value), headers=headers, media_type="application/json")


routes = [
    Route("/v1/compress", compress, methods=["POST"]),
    Route("/v1/compress/preview", preview, methods=["POST"]),
    Route("/llm/v1/compressPrompt", compress_prompt, methods=["POST"]),
]
