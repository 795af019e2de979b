"""What looks at the whole of a large request does so on a thread, never on the event loop."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from compressor.text.tokens import TiktokenCounter
from gateway import pipeline
from gateway.api import receiving
from gateway.chat import request as requests
from gateway.compression import choosing, reforming, sending, shortening, text_memory
from gateway.exchange import Received
from gateway.upstream import directory
from tests.support.chat_bodies import body, conversation, long_text
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import MODELS, live_gateway
from tests.support.shortening import Bench

SIZE = 1_500_000
ONE_TEXT = conversation([("user", (long_text(2000) * 40)[:SIZE] + "\n\nWhat was agreed?")])
MANY_MESSAGES = conversation(
    [(("user", "assistant")[n % 2], f"{n} and so on, as was said before.") for n in range(5001)]
)


class Watch:
    """On which threads some functions ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.threads: dict[str, set[threading.Thread]] = {}

    def watch(self, owner: Any, *names: str, long: Callable[..., bool] = lambda *_: True) -> None:
        """Only calls whose arguments are long count."""
        for name in names:
            self._watch(owner, name, getattr(owner, name), long)

    def _watch(self, owner: Any, name: str, function: Any, long: Callable[..., bool]) -> None:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if long(*args):
                self.threads.setdefault(name, set()).add(threading.current_thread())
            return function(*args, **kwargs)

        self._patch.setattr(owner, name, watched)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.mark.parametrize("raw", [ONE_TEXT, MANY_MESSAGES], ids=["one text", "many messages"])
async def test_shortening(watch: Watch, raw: dict[str, Any]) -> None:
    many = raw is MANY_MESSAGES
    watch.watch(shortening, "chain_of", "_fixed_text", "sort_messages" if many else "chain_of")
    watch.watch(reforming, "_choose_forms")
    watch.watch(choosing, "shorten_passages", "make_form")
    watch.watch(sending, "_build", "rebuild", "find_damage")
    watch.watch(text_memory, "digest_of", long=lambda text: len(text) > 10_000)
    watch.watch(TiktokenCounter, "count_many", long=lambda _, texts: sum(map(len, texts)) > 10_000)
    if many:
        watch.watch(shortening, "read_conversation")
        watch.watch(reforming, "_joined", "_free_texts", "_whole_forms")
        watch.watch(sending, "_to_fix", "_differ", "_account")
    else:
        watch.watch(reforming, "split_message")
    done = await Bench().shorten(raw)
    assert done.status == "applied", done.skip_reason
    expected = {"_build", "rebuild", "shorten_passages", "chain_of", "count_many"}
    assert expected <= watch.threads.keys()
    assert ("digest_of" in watch.threads) != many
    on_loop = [name for name, threads in watch.threads.items() if threading.main_thread() in threads]
    assert not on_loop


async def test_reading_and_renaming(watch: Watch) -> None:
    watch.watch(pipeline, "parse_request")
    watch.watch(requests, "_check_messages")
    data = body(MANY_MESSAGES) + b" " * SIZE
    received = Received("chat", "/v1/chat/completions", [], {}, data, "id", 0.0)
    request = await pipeline.parse(received)
    assert len(request.raw["messages"]) == 5001
    assert request.marked is False
    tagged = data.replace(b'"model"', b'"cache_control": {}, "model"', 1)
    marked = await pipeline.parse(replace(received, body=tagged))
    assert marked.marked is True
    assert threading.main_thread() not in watch.threads["parse_request"] | watch.threads["_check_messages"]


def test_unpacking_and_renaming(watch: Watch, upstream: FakeUpstream) -> None:
    watch.watch(receiving, "_decode")
    watch.watch(directory, "rename_model")
    sent = body({**ONE_TEXT, "model": "renamed"})
    with (
        live_gateway(upstream, MODELS.replace("trigger_tokens: 256", "mode: 'off'")) as gateway,
        gateway.client() as client,
    ):
        reply = client.post(
            "/v1/chat/completions", content=gzip.compress(sent), headers={"content-encoding": "gzip"}
        )
    assert reply.status_code == 200
    assert upstream.seen[-1].body == sent.replace(b'"renamed"', b'"gpt-4o-mini-2024"')
    threads = [thread.name for name in ("_decode", "rename_model") for thread in watch.threads[name]]
    assert len(threads) >= 2
    assert all(name.startswith("terse-") for name in threads)


async def test_putting_the_parts_of_a_body_together(watch: Watch) -> None:
    watch.watch(receiving, "_joined")
    for size, on_loop in ((1000, True), (SIZE, False)):
        parts = [b"a" * (size // 2), b"b" * (size // 2)]
        messages = [{"type": "http.request", "body": part, "more_body": part[:1] == b"a"} for part in parts]

        async def receive(messages: list[dict[str, Any]] = messages) -> dict[str, Any]:
            return messages.pop(0)

        assert await receiving.read_body({}, receive, 2 * SIZE) == b"".join(parts)
        assert (threading.main_thread() in watch.threads.pop("_joined")) == on_loop
