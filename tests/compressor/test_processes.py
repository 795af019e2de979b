"""Texts over worker processes: the same results in order, and what happens when something goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor import (
    BudgetTooSmall,
    Compressor,
    EngineStopped,
    InvalidOption,
    InvalidText,
    ScoringFailed,
    Shortened,
)
from compressor.config import CompressorConfig
from compressor.engine.fake import FakeEngine
from compressor.engine.scorer import Window
from compressor.processes.piped import pack_windows, unpack_windows
from compressor.startup import open_engine
from tests.support.tiny_encoder import TEXTS, tiny_encoder
from tests.support.waiting import until

LONG = "\n".join(f"{number}. {text}" for number in range(12) for text in TEXTS)
PROCESSES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def compressor(folder: Path) -> Iterator[Compressor]:
    with Compressor.open(str(folder), device="cpu") as opened:
        yield opened


def same(one: Shortened, other: Shortened) -> bool:
    return (
        one.text == other.text
        and list(one.kept) == list(other.kept)
        and np.array_equal(one.scores, other.scores)
        and (one.tokens_before, one.tokens_after) == (other.tokens_before, other.tokens_after)
        and (one.tokenizer, one.note, one.decisions) == (other.tokenizer, other.note, other.decisions)
    )


def pids(compressor: Compressor) -> list[int]:
    assert compressor._pool is not None
    return [one.process.pid for one in compressor._pool._processes]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0.5, "protect": []},
        {"target_tokens": 40, "protect": [], "explain": True},
        {"keep": 0.4, "protect": [], "question": "What did the budget cost?", "tokenizer": "cl100k_base"},
        {"keep": 0.6, "protect": ["urls"], "force_tokens": ["\n"], "unit": "words"},
    ],
)
def test_results_are_those_of_one_process_in_order(compressor: Compressor, options: Any) -> None:
    texts = [f"{number}: {LONG[: 40 * number]}" for number in range(25)]
    texts += ["", " \n", "word", "<llmlingua, rate=0.4>" + TEXTS[0] + "</llmlingua> rest " + TEXTS[1]]
    together = compressor.compress_batch(texts, processes=PROCESSES, **options)
    alone = compressor.compress_batch(texts, **options)
    assert len(together) == len(texts)
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert sum(one.text != text for one, text in zip(together, texts, strict=True)) > 10


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.sampled_from("abde \n.,会é1👍"), max_size=400), max_size=8))
def test_any_texts_come_back_as_from_one_process(compressor: Compressor, texts: list[str]) -> None:
    together = compressor.compress_batch(texts, keep=0.5, processes=PROCESSES, protect=[])
    alone = compressor.compress_batch(texts, keep=0.5, protect=[])
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


def test_the_first_text_that_fails_is_heard_of_and_the_workers_go_on(compressor: Compressor) -> None:
    compressor.compress_batch([LONG], processes=PROCESSES)
    before = pids(compressor)
    with pytest.raises(InvalidText, match="unpaired surrogate at character 1"):
        compressor.compress_batch([LONG, "a\ud800", LONG, "b\ud800c"], processes=PROCESSES)
    with pytest.raises(InvalidText, match="got int"):
        compressor.compress_batch([LONG, 3], processes=PROCESSES)  # type: ignore[list-item]
    with pytest.raises(BudgetTooSmall) as small:
        compressor.compress_batch(["1 2 3 4 5 6 7"], target_tokens=2, processes=PROCESSES)
    with pytest.raises(BudgetTooSmall) as expected:
        compressor.compress("1 2 3 4 5 6 7", target_tokens=2)
    assert (str(small.value), small.value.short_by) == (str(expected.value), expected.value.short_by)
    assert compressor.compress_batch([LONG], processes=PROCESSES)[0].text
    assert pids(compressor) == before


def test_what_the_model_raises_reaches_the_caller(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Compressor.open(str(folder), device="cpu") as compressor:

        def broken(*_: Any) -> None:
            raise RuntimeError("the card is on fire")

        monkeypatch.setattr(compressor.engine._worker._scorer, "launch", broken)  # type: ignore[attr-defined]
        with pytest.raises(ScoringFailed, match="the card is on fire"):
            compressor.compress_batch([LONG], processes=1 + 1)


def test_a_killed_worker_is_named_and_the_next_call_has_new_ones(folder: Path) -> None:
    with Compressor.open(str(folder), device="cpu") as compressor:
        expected = compressor.compress_batch([LONG] * 3, processes=PROCESSES)
        killed = pids(compressor)
        os.kill(killed[0], signal.SIGKILL)
        with pytest.raises(EngineStopped, match="exit code -9"):
            compressor.compress_batch([LONG * 3] * 12, processes=PROCESSES)
        assert not any(map(runs, killed))
        again = compressor.compress_batch([LONG] * 3, processes=PROCESSES)
        assert all(same(one, other) for one, other in zip(again, expected, strict=True))
        assert not set(pids(compressor)) & set(killed)


def test_closing_ends_the_workers_and_another_number_starts_anew(folder: Path) -> None:
    compressor = Compressor.open(str(folder), device="cpu")
    compressor.compress_batch([LONG], processes=2)
    two = pids(compressor)
    compressor.compress_batch([LONG], processes=3)
    three = pids(compressor)
    assert len(two) == 2 and len(three) == 3 and not any(map(runs, two))
    compressor.close()
    assert not any(map(runs, three))


def test_texts_beyond_the_line_of_the_engine_are_shortened_all_the_same(folder: Path) -> None:
    config = CompressorConfig(model=str(folder), device="cpu", max_waiting_tokens=600)
    texts = [f"{number} {LONG}" for number in range(9)]
    with Compressor(open_engine(config), model=str(folder)) as compressor:
        together = compressor.compress_batch(texts, keep=0.5, processes=PROCESSES)
        assert all(
            same(one, compressor.compress(text, keep=0.5)) for one, text in zip(together, texts, strict=True)
        )


_OWNER = """
import sys
from compressor import Compressor
compressor = Compressor.open(sys.argv[1], device="cpu")  # no main guard: workers never run this again
print(compressor.compress_batch(["one two three four five. " * 9] * 3, processes=2)[2].tokens_after)
print(*[one.process.pid for one in compressor._pool._processes], flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_leaves_no_workers(folder: Path) -> None:
    command = [sys.executable, "-c", _OWNER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert int(owner.stdout.readline()) > 0
        workers = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(workers) == 2 and all(map(runs, workers))
        owner.kill()
    until(lambda: not any(map(runs, workers)))


@pytest.mark.parametrize("processes", [0, -1, "4", 1.5])
def test_a_number_of_processes_that_cannot_be_meant(compressor: Compressor, processes: Any) -> None:
    with pytest.raises(InvalidOption, match="processes"):
        compressor.compress_batch([LONG], processes=processes)


def test_processes_need_a_model_and_no_compat(compressor: Compressor) -> None:
    with pytest.raises(InvalidOption, match="opened from a model"), Compressor(FakeEngine()) as fake:
        fake.compress_batch([LONG], processes=2)
    with pytest.raises(InvalidOption, match="compat runs in one process"):
        compressor.compress_batch([LONG], processes=2, compat="llmlingua")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 900)), min_size=1, max_size=5))
def test_windows_come_out_of_a_message_as_they_went_in(sizes: list[tuple[int, int, int]]) -> None:
    draw = np.random.default_rng(0)
    ints = lambda size: draw.integers(0, 99, size).astype(np.int32)  # noqa: E731
    windows = [Window(ints(t), ints(p), ints(p), first, first % 7) for t, p, first in sizes]
    number, found, task = unpack_windows(bytes(pack_windows(7, windows, "embed").data))
    assert (number, task, len(found)) == (7, "embed", len(windows))
    for one, other in zip(found, windows, strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.pair_tokens, other.pair_tokens)
        assert np.array_equal(one.pair_words, other.pair_words)
        assert (one.first_word, one.words) == (other.first_word, other.words)
