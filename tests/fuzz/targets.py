"""What is fuzzed: each target takes bytes, may refuse them with the error it promises, and checks what comes.

`python -m tests.fuzz TARGET --seconds 120` runs one under atheris; test_corpus.py runs each over its seeds in
every test run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import orjson

from compressor.errors import InvalidBudget, InvalidOption
from compressor.tagged import cut_tagged, has_tags
from gateway.accounting.usage import UsageWatch
from gateway.chat import large_json
from gateway.chat import request as requests
from gateway.chat.event_stream import EventSplitter, data_of
from gateway.chat.request import parse_request, rename_model
from gateway.chat.segments import split_messages
from gateway.configuration_file import parse_config
from gateway.errors import BadRequest
from gateway.settings import Settings
from policies.errors import ConfigurationError
from policies.shapes import Policy

SETTINGS = Settings()
POLICY = Policy("default", mode="on", trigger_tokens=1)
SURFACES = ("chat", "completions", "responses", "messages", "embeddings")


def event_stream(data: bytes) -> None:
    """However a stream is cut into chunks, its events are the same, and counting its usage never raises."""
    cut = data[0] % 17 + 1 if data else 1
    stream = data[1:]
    whole = EventSplitter().feed(stream)
    splitter = EventSplitter()
    events = [event for i in range(0, len(stream), cut) for event in splitter.feed(stream[i : i + cut])]
    assert [data_of(event) for event in events] == [data_of(event) for event in whole], (events, whole)
    for surface in SURFACES:
        for streamed in (True, False):
            watch = UsageWatch(surface, stream=streamed, input_tokens=3)  # type: ignore[arg-type]
            for i in range(0, len(stream), cut):
                watch.feed(stream[i : i + cut])
            usage = watch.result()
            assert usage.input_tokens >= 0 and usage.output_tokens >= 0


def request_body(data: bytes) -> None:
    """A body is refused or parsed; segments are slices of the client's text; only the model is renamed.

    Read in pieces, as a large body is, it says the same.
    """
    surface = SURFACES[data[0] % len(SURFACES)] if data else "chat"
    body = data[1:]
    whole = _parsed(surface, body)
    with _large_from(1 + len(body) % 7):
        pieces = _parsed(surface, body)
    assert pieces == whole, (pieces, whole)


def _parsed(surface: str, body: bytes) -> tuple[str, bytes]:
    """What a client would be told, or the request as JSON, and the renamed body."""
    try:
        request = parse_request(surface, "/v1/x", body)  # type: ignore[arg-type]
    except BadRequest as error:
        return str(error), b""
    for segment in split_messages(request, POLICY):
        value: object = request.raw
        for step in segment.path:
            value = value[step]  # type: ignore[index]
        assert isinstance(value, str)
        assert value[segment.start : segment.start + len(segment.text)] == segment.text
    told = json.dumps(request.raw)  # keeps the order of keys and tells 1 from 1.0
    try:
        before = orjson.loads(body)
    except orjson.JSONDecodeError:
        return told, b""  # escaped lone surrogates: Python's reader takes them
    renamed = rename_model(body, "other")
    assert orjson.loads(renamed) == {**before, "model": "other"}
    return told, renamed


@contextmanager
def _large_from(size: int) -> Iterator[None]:
    """Every body is large, and every text and list is cut after so many bytes."""
    with (
        patch.multiple(large_json, LARGE_BYTES=1, _PIECE_BYTES=size, _TEXT_BYTES=size),
        patch.object(requests, "LARGE_BYTES", 1),
    ):
        yield


def tags(data: bytes) -> None:
    """A tagged text is refused or cut into sections that lie in it, in order, none empty."""
    text = data.decode("utf-8", "replace")
    try:
        sections = cut_tagged(text)
    except (InvalidBudget, InvalidOption):
        return
    end = 0
    for section in sections:
        assert end <= section.span.start <= section.span.end <= len(text)
        assert section.rate is None or 0 <= section.rate <= 1
        end = section.span.end
    if not has_tags(text):
        assert "".join(text[s.span.start : s.span.end] for s in sections) == text


def configuration(data: bytes) -> None:
    """A terse.yaml is read or refused with its problems."""
    try:
        parse_config(data.decode("utf-8", "replace"), "terse.yaml", SETTINGS, environment=lambda _name: "x")
    except ConfigurationError as error:
        assert str(error)


@dataclass(frozen=True, slots=True)
class Target:
    """A target, inputs to start from, and words that its language has."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[str, ...]


CHAT = b'\x00{"model":"m","messages":[{"role":"system","content":"Be short."},{"role":"user","content":'
MESSAGES = (
    b'\x03{"model":"m","max_tokens":1,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],'
    b'"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"r"}]}]}'
)
YAML = b"""upstreams:
  up: {base_url: http://127.0.0.1:1/v1, api_key: env/KEY, retries: 2}
  claude: {litellm: anthropic}
models:
  m: {upstream: up, fallbacks: [s], price: {input: 1.0, output: 2.0}}
  s: {upstream: claude, model: claude-sonnet-4-5}
compressor: {model: default, deadline_ms: 400}
store: env/REDIS_URL
policies:
  default: {mode: on, trigger_tokens: 1024, keep: 0.5, protect: [system, code, json]}
  rag: {extends: default, question_aware: true, ranges: [{from: 2000, keep: 0.5}], max_input_tokens: 6000}
teams:
  search: {budget: {usd: 200, per: month}, pressure: [{spent: 0.8, keep: 0.4}]}
routes:
  - {match: {model: "gpt-*", team: search, path: /v1/chat/completions}, policy: rag}
"""
TARGETS = {
    "event_stream": Target(
        event_stream,
        (
            b'\x03data: {"choices":[{"delta":{"content":"a"}}]}\r\n\r\ndata: [DONE]\n\n',
            b'\x01event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n',
            b'\x07: ping\n\ndata: {"type":"response.completed",\ndata: "response":{"usage":{}}}\n\n',
            b'\x02{"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":1}},"choices":[]}',
        ),
        ("data: ", "event: ", "[DONE]", "usage", "prompt_tokens", "input_tokens", "\r\n\r\n"),
    ),
    "request_body": Target(
        request_body,
        (
            CHAT + b'"A long text.\\n\\nWhat is it?"}],"stream":true,"max_tokens":5}',
            CHAT + b'[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:,"}}]}]}',
            b'\x01{"model":"m","prompt":["a","b"],"n":2}',
            b'\x02{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"t"}]}]}',
            MESSAGES,
            b'\x04{"model":"m","input":[1,2]}',
            CHAT + b'"A text \\u00e4 with \\\\\\" blanks"} ,{"role":"a"} , {"role":"b"}],"model":"n"}',
        ),
        ("model", "messages", "content", "role", "tool_calls", "cache_control", "\\ud800", "null", "1e999"),
    ),
    "tags": Target(
        tags,
        (
            b"<llmlingua, rate=0.4>text</llmlingua><llmlingua, compress=False>kept</llmlingua> rest",
            b"<llmlingua>a</llmlingua>",
        ),
        ("<llmlingua", "</llmlingua>", "rate=", "compress=", "True", "False", "nan", "1e9", ", "),
    ),
    "configuration": Target(
        configuration,
        (YAML, b"policies:\n  default: {mode: off}\n", b"a: &a [*a]\n", b"? {x: 1}\n: 2\n"),
        ("policies", "extends", "teams", "routes", "env/", "ranges", "per: ", "!!python/", "&a", "*a"),
    ),
}  # fmt: skip
