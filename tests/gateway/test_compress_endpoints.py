"""Compression as a service: headroom's and Kong's contracts, and the preview."""

from __future__ import annotations

import pytest

from compressor.errors import CompressorError, InvalidBudget, Overloaded
from gateway.api.compress import as_gateway_error
from gateway.errors import BadRequest, Unavailable
from tests.support import chat_bodies
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_gateway import LiveGateway


def test_compress_keeps_number_and_roles(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    asked = chat_bodies.rag()
    with gateway.client() as client:
        reply = client.post("/v1/compress", json={**asked, "config": {"mode": "ccr"}}).json()
    assert [m["role"] for m in reply["messages"]] == ["system", "user"]
    assert reply["messages"][0] == asked["messages"][0]
    assert reply["tokens_saved"] == reply["tokens_before"] - reply["tokens_after"] > 500
    assert reply["compression_ratio"] == pytest.approx(
        reply["tokens_after"] / reply["tokens_before"], abs=1e-3
    )
    assert (reply["transforms_applied"], reply["ccr_hashes"]) == (["terse:default"], [])
    assert upstream.seen == []


def test_frozen_messages_come_back_as_they_are(gateway: LiveGateway) -> None:
    asked = chat_bodies.conversation(
        [
            ("user", chat_bodies.long_text(100)),
            ("assistant", "ok"),
            ("user", chat_bodies.long_text(90) + "\n\nWhy?"),
        ]
    )
    with gateway.client() as client:
        reply = client.post("/v1/compress", json={**asked, "config": {"frozen_message_count": 1}}).json()
        wrong = client.post("/v1/compress", json={**asked, "config": {"frozen_message_count": "x"}})
    assert reply["messages"][0] == asked["messages"][0]
    assert reply["messages"][2] != asked["messages"][2]
    assert 0 < reply["tokens_saved"] < reply["tokens_before"] / 2
    assert wrong.status_code == 400


def test_a_model_that_is_not_ours_is_counted_for(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        reply = client.post("/v1/compress", json=chat_bodies.rag(model="somebody/elses"))
    assert reply.status_code == 200
    assert reply.json()["tokens_before"] > 2000


def test_kongs_compressor(gateway: LiveGateway) -> None:
    text = chat_bodies.long_text(50)
    asked = {
        "text": [{"msg_id": 7, "text": text}, {"msg_id": 8, "text": "short"}],
        "compress_type": "rate",
        "compress_ranges": [{"min_tokens": 100, "max_tokens": 100_000, "value": 0.5}],
        "model_name": "any",
    }
    with gateway.client() as client:
        long, short = client.post("/llm/v1/compressPrompt", json=asked).json()["text"]
        target = {**asked, "compress_type": "target_token"}
        target["compress_ranges"] = [{"min_tokens": 0, "max_tokens": 1e9, "value": 200}]
        by_target = client.post("/llm/v1/compressPrompt", json=target).json()["text"][0]
        wrong = client.post("/llm/v1/compressPrompt", json={"text": "no list"})
    assert long["compress_token_count"] <= long["original_token_count"] * 0.5
    assert long["save_token_count"] == long["original_token_count"] - long["compress_token_count"]
    assert (short["text"], short["compress_value"]) == ("short", None)
    assert by_target["compress_token_count"] < by_target["original_token_count"]
    assert (by_target["compress_token_count"] <= 200) == (by_target["information"] == "compressed")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "text")


def test_preview_explains_every_word(gateway: LiveGateway) -> None:
    text = chat_bodies.long_text(20)
    with gateway.client() as client:
        reply = client.post(
            "/v1/compress/preview", json={"text": text, "keep": 0.5, "protect": ["numbers"]}
        ).json()
        wrong = client.post("/v1/compress/preview", json={"text": text, "keep": 7})
        neither = client.post("/v1/compress/preview", json={})
    assert [w["text"] for w in reply["words"]] == [text[w["start"] : w["end"]] for w in reply["words"]]
    assert reply["tokens_after"] <= reply["tokens_before"] * 0.5
    assert {"score", "reason", "kept"} <= set(reply["words"][0])
    assert all(w["text"] in reply["text"] for w in reply["words"] if w["kept"])
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_option")
    assert neither.status_code == 400


def test_preview_of_a_conversation(gateway: LiveGateway) -> None:
    turns = [("user", chat_bodies.long_text(40)), ("assistant", "Noted."), ("user", "When?")]
    asked = {**chat_bodies.conversation(turns), "keep": 0.6}
    with gateway.client() as client:
        reply = client.post("/v1/compress/preview", json=asked).json()
    assert len(reply["messages"]) == 3
    assert reply["tokens_after"] < reply["tokens_before"]
    assert reply["parts"][0]["words"]


def classes_below(base: type[CompressorError]) -> list[type[CompressorError]]:
    return [base, *(found for child in base.__subclasses__() for found in classes_below(child))]


@pytest.mark.parametrize("kind", classes_below(CompressorError))
def test_every_error_of_the_compressor_has_an_answer(kind: type[CompressorError]) -> None:
    error = kind.__new__(kind)
    CompressorError.__init__(error, "why")
    assert isinstance(as_gateway_error(error), BadRequest | Unavailable)


def test_which_answer() -> None:
    assert as_gateway_error(InvalidBudget("x")).status == 400
    assert as_gateway_error(Overloaded("x")).headers["retry-after"] == "1"
