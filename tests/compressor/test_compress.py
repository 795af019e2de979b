from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor import (
    BudgetTooSmall,
    Compressor,
    EngineStopped,
    InvalidBudget,
    InvalidOption,
    InvalidText,
    ModelLoadFailed,
    Overloaded,
    Shortened,
)
from compressor.engine.fake import FakeEngine
from compressor.text.tokens import counter_for

COUNTER = counter_for("o200k_base")
TEXT = (
    "The council met on Tuesday to talk about the bridge. It did not agree on a price. Anna paid 5 euros.\n\n"
    "Later the mayor said that the river was high. See https://x.org/minutes for details. Nobody objected.\n"
) * 4


@pytest.fixture
def compressor() -> Iterator[Compressor]:
    with Compressor(FakeEngine()) as opened:
        yield opened


def test_a_share_of_a_text(compressor: Compressor) -> None:
    result = compressor.compress(TEXT, keep=0.6)
    assert isinstance(result, Shortened)
    assert result.tokens_before == COUNTER.count(TEXT)
    assert 0.98 * 0.6 * result.tokens_before - 1 <= result.tokens_after <= 0.6 * result.tokens_before
    assert result.tokens_after == COUNTER.count(result.text)
    assert "".join(TEXT[span.start : span.end] for span in result.kept) == result.text
    assert result.text.count("https://x.org/minutes") == 4
    assert result.text.count("did not agree") == 4 or result.text.count("not agree") == 4


def test_a_target_and_another_tokenizer(compressor: Compressor) -> None:
    result = compressor.compress(TEXT, target_tokens=80, tokenizer="gpt-4", protect=())
    assert result.tokenizer == "cl100k_base"
    assert 78 <= counter_for("cl100k_base").count(result.text) == result.tokens_after <= 80


def test_keeping_everything_is_the_identical_string(compressor: Compressor) -> None:
    assert compressor.compress(TEXT, keep=1).text == TEXT
    assert compressor.compress(TEXT, target_tokens=10**9).text == TEXT


def test_a_question_picks_the_sentences(compressor: Compressor) -> None:
    result = compressor.compress(TEXT, keep=0.3, question="the river was high", protect=())
    assert result.text.count("the river was high") == 4


def test_batch_results_are_single_results(compressor: Compressor) -> None:
    texts = [TEXT, "one two three four five six", "", TEXT[:200]]
    assert [one.text for one in compressor.compress_batch(texts, keep=0.5, protect=())] == [
        compressor.compress(text, keep=0.5, protect=()).text for text in texts
    ]


async def test_coroutines_and_threads_get_the_same(compressor: Compressor) -> None:
    expected = await asyncio.to_thread(compressor.compress, TEXT, keep=0.5)
    assert (await compressor.acompress(TEXT, keep=0.5)).text == expected.text
    several = await asyncio.gather(
        *(asyncio.to_thread(compressor.compress, TEXT, keep=0.5) for _ in range(4))
    )
    assert {one.text for one in several} == {expected.text}


def test_explain_tells_of_every_word(compressor: Compressor) -> None:
    result = compressor.compress(TEXT, keep=0.5, explain=True)
    assert len(result.decisions) == len(result.scores) == len(TEXT.split())
    assert {one.reason for one in result.decisions} >= {"score", "protected:numbers", "protected:urls"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, InvalidBudget, "above 0"),
        ({"keep": 1.5}, InvalidBudget, "above 0 and up to 1"),
        ({"keep": float("nan")}, InvalidBudget, "nan"),
        ({"keep": "half"}, InvalidBudget, "half"),
        ({"keep": True}, InvalidBudget, "True"),
        ({"target_tokens": 0}, InvalidBudget, "at least 1"),
        ({"target_tokens": 1.5}, InvalidBudget, "whole number"),
        ({"keep": 0.5, "target_tokens": 5}, InvalidOption, "exclude each other"),
        ({"rate": 0.5}, InvalidOption, "rate"),
        ({"protect": "numbers"}, InvalidOption, "a list"),
        ({"protect": ["numbrs"]}, InvalidOption, "numbrs"),
        ({"force_tokens": "\n"}, InvalidOption, "a list"),
        ({"kind": "poem"}, InvalidOption, "poem"),
        ({"unit": "letters"}, InvalidOption, "letters"),
        ({"compat": "other"}, InvalidOption, "other"),
        ({"llmlingua": {"rate": 0.3}}, InvalidOption, "compat"),
        ({"compat": "llmlingua"}, InvalidOption, "model folder"),
        ({"tokenizer": "/no/such/folder"}, InvalidOption, "/no/such/folder"),
    ],
)
def test_bad_options_are_told(
    compressor: Compressor, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compressor.compress(TEXT, **options)


def test_a_budget_below_the_protected_spans_says_by_how_much(compressor: Compressor) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        compressor.compress(TEXT, target_tokens=3)
    exact = compressor.compress(TEXT, target_tokens=3 + caught.value.short_by)
    assert exact.tokens_after == 3 + caught.value.short_by


@pytest.mark.parametrize("text", ["a \ud800 b", "\udfff"])
def test_unpaired_surrogates_are_refused_with_their_place(compressor: Compressor, text: str) -> None:
    with pytest.raises(InvalidText, match=r"character \d"):
        compressor.compress(text)


def test_what_is_no_text_is_refused(compressor: Compressor) -> None:
    with pytest.raises(InvalidOption, match="role"):
        compressor.compress([1, 2])  # type: ignore[list-item]
    with pytest.raises(InvalidText):
        compressor.compress_batch([b"bytes"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("word", "word"), (" \n\t ", ""), ("\x00", "\x00"), ("😀", "😀"), ("Hi!", "Hi!")],
)
def test_the_smallest_texts(compressor: Compressor, text: str, expected: str) -> None:
    assert compressor.compress(text, keep=0.5).text == expected


def test_null_bytes_come_through(compressor: Compressor) -> None:
    text = "one\x00two three\x00 four " * 10
    assert compressor.compress(text, keep=1).text == text
    assert set(compressor.compress(text, keep=0.5).text) <= set(text)


def test_megabytes_of_one_character(compressor: Compressor) -> None:
    text = "a" * 2_000_000  # time is linear in it (benchmarks/bench_text.py has 10 MB)
    result = compressor.compress(text, keep=0.5, kind="prose")
    assert (result.text, result.note) == (text, "too short to be shortened")  # one word cannot be halved


def test_errors_of_the_engine_come_through() -> None:
    with Compressor(FakeEngine(error=Overloaded("too much waits"))) as compressor, pytest.raises(Overloaded):
        compressor.compress(TEXT)


def test_a_closed_compressor_says_so_and_leaves_no_thread() -> None:
    compressor = Compressor(FakeEngine())
    compressor.compress("some words here")
    compressor.close()
    with pytest.raises(EngineStopped):
        compressor.compress("some words here")
    compressor.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "terse-compress"]


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed):
        Compressor.open(str(tmp_path))


async def test_cancelling_drops_the_work() -> None:
    engine = FakeEngine(delay=30)
    task = asyncio.create_task(Compressor(engine).acompress(TEXT))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.scored == []


def test_one_encoder_pass_a_text_whatever_the_units(compressor: Compressor) -> None:
    engine = compressor.engine
    assert isinstance(engine, FakeEngine)
    compressor.compress(TEXT * 20, keep=0.2, question="who pays?", protect=())
    assert engine.scored == [TEXT * 20]


def test_compat_hands_over_to_llmlinguas_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    import compressor.compat as compat
    import compressor.compat.compress as steps

    calls: list[Any] = []

    def fake(model: Any, context: str, **options: Any) -> compat.LLMLinguaResult:
        calls.append((model, context, options))
        return compat.LLMLinguaResult(("short",), 10, 2)

    monkeypatch.setattr(compat, "compress_llmlingua", fake)
    monkeypatch.setattr(steps, "opened", lambda model: f"opened {model}")
    with Compressor(FakeEngine(), model="folder") as compressor:
        result = compressor.compress(TEXT, keep=0.3, compat="llmlingua", llmlingua={"drop_consecutive": True})
        assert (result.text, result.tokens_before, result.tokens_after, result.kept) == ("short", 10, 2, ())
        compressor.compress("again", target_tokens=7, force_tokens=["a"], compat="llmlingua")
        with pytest.raises(InvalidOption, match="not messages"):
            compressor.compress([{"role": "user", "content": "x"}], compat="llmlingua")
    assert calls[0] == ("opened folder", TEXT, {"drop_consecutive": True, "rate": 0.3})
    assert calls[1] == ("opened folder", "again", {"target_token": 7, "force_tokens": ["a"]})


# ---- sections, JSON, conversations


def test_sections_have_their_own_rates(compressor: Compressor) -> None:
    tagged = (
        f"<llmlingua, compress=False>Speaker <4>:</llmlingua><llmlingua, rate=0.3>{TEXT}</llmlingua>"
        f"<llmlingua>{TEXT}</llmlingua> the end"
    )
    result = compressor.compress(tagged, keep=0.8, protect=())
    assert "llmlingua" not in result.text
    assert result.text.startswith("Speaker <4>:")
    assert "".join(tagged[span.start : span.end] for span in result.kept) == result.text
    size = COUNTER.count(TEXT)
    assert 0.9 * 1.1 * size < result.tokens_after < 1.1 * 1.1 * size
    assert compressor.compress(f"<llmlingua rate=0.5>{TEXT}", keep=1).text.startswith("<llmlingua rate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<llmlingua>a", "never closed"),
        ("a</llmlingua>", "closes nothing"),
        ("<llmlingua>a<llmlingua>b</llmlingua>", "not closed"),
        ("<llmlingua, rate=2>a</llmlingua>", "rate"),
        ("<llmlingua, rate=x>a</llmlingua>", "rate is a number"),
        ("<llmlingua, compress=maybe>a</llmlingua>", "True or False"),
    ],
)
def test_bad_tags_are_told(compressor: Compressor, text: str, message: str) -> None:
    tagged = text if "<llmlingua" in text else f"<llmlingua></llmlingua>{text}"
    with pytest.raises((InvalidOption, InvalidBudget), match=message):
        compressor.compress(tagged)


def test_json_configurations(compressor: Compressor, tmp_path: Path) -> None:
    data = {"id": 7, "note": TEXT, "log": [TEXT, "x"], "secret": TEXT, "extra": "some words that may go"}
    config = {
        "note": {"rate": 0.5, "compress": True, "value_type": "str"},
        "log": {"rate": 0.6, "value_type": "list"},
        "secret": {"compress": False},
        "extra": {"pair_remove": True, "rate": 0.9},
    }
    result = compressor.compress_json(data, config, keep=0.5, protect=[])
    assert result.data["id"] == 7
    assert result.data["secret"] == TEXT
    assert "extra" not in result.data
    assert result.removed == ("extra",)
    assert COUNTER.count(result.data["note"]) <= 0.5 * COUNTER.count(TEXT)
    assert len(result.data["log"]) == 2
    assert result.tokens_after < result.tokens_before
    file = tmp_path / "config.yaml"
    file.write_text("note: {rate: 0.5}\n")
    assert compressor.compress_json(data, str(file), protect=[]).data["log"] == [TEXT, "x"]
    with pytest.raises(InvalidOption, match="nowhere"):
        compressor.compress_json(data, {"nowhere": {}})
    with pytest.raises(InvalidOption, match="should be int"):
        compressor.compress_json(data, {"note": {"value_type": "int"}})


def test_conversations_keep_what_must_not_change(compressor: Compressor) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": TEXT},
        {
            "role": "user",
            "content": [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": "x"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"arguments": TEXT}}]},
        {"role": "tool", "tool_call_id": "1", "content": TEXT},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "user", "content": "And what did Anna pay?"},
    ]
    before = repr(messages)
    result = compressor.compress(messages, keep=0.5, protect=())
    assert repr(messages) == before
    after = result.messages
    assert [message["role"] for message in after] == [message["role"] for message in messages]
    for index in (0, 2, 4, 5):
        assert after[index] == messages[index]
    assert after[1]["content"][1] == messages[1]["content"][1]
    assert len(after[1]["content"][0]["text"]) < len(TEXT)
    assert len(after[3]["content"]) < len(TEXT)
    free = 2 * COUNTER.count(TEXT)
    assert result.tokens_before - result.tokens_after == pytest.approx(free / 2, rel=0.05)


def test_anthropic_tool_results_are_texts_too(compressor: Compressor) -> None:
    messages = [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": TEXT}]},
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": TEXT}]}]},
    ]
    result = compressor.compress(messages, keep=0.5, protect=())
    assert len(result.messages[0]["content"][0]["content"]) < len(TEXT)
    assert len(result.messages[1]["content"][0]["content"][0]["text"]) < len(TEXT)
    assert result.messages[1]["content"][0]["type"] == "tool_result"


def test_a_long_last_message_keeps_its_first_and_last_paragraph(compressor: Compressor) -> None:
    text = (
        f"Read this and answer at the end, please.\n\n{TEXT * 10}\n\nSo: what did Anna pay, and when was it?"
    )
    result = compressor.compress([{"role": "user", "content": text}], keep=0.3, protect=())
    short = result.messages[0]["content"]
    assert short.startswith("Read this and answer at the end, please.\n\n")
    assert short.endswith("So: what did Anna pay, and when was it?")
    assert len(short) < 0.4 * len(text)


def test_scores_are_one_byte_a_word(compressor: Compressor) -> None:
    result = compressor.compress(TEXT, keep=0.9)
    assert result.scores.dtype == np.uint8
    assert len(result.scores) == len(TEXT.split())
