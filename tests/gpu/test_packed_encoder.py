"""The packed encoder on a real GPU. Deselected unless asked for: `make test-gpu`, on a machine with CUDA."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressor.config import CompressorConfig
from compressor.engine.engine import Engine
from compressor.engine.scorer import OutOfDeviceMemory, Running, Task, Window
from compressor.engine.tokenizing import code_points
from compressor.engine.windows import plan_windows
from compressor.model.loading import OpenedModel, open_model
from compressor.model.packed_scorer import PackedScorer
from compressor.text.words import split_words
from tests.support.tiny_encoder import TEXTS, tiny_encoder

pytestmark = pytest.mark.gpu
TEXT = "\n".join(f"{number}. {text}" for number in range(30) for text in TEXTS)
# A byte is 1/255: rounding may move a word by one, and by a few where many layers count in 8 bits.
ONE_BYTE = 1


def opened(**options: Any) -> OpenedModel:
    """The shipped encoder, whose weights are trained, on the first GPU."""
    return open_model(CompressorConfig(device="cuda:0", **options))


def windows_of(model: OpenedModel, text: str = TEXT) -> list[Window]:
    codes, words = code_points(text), split_words(text)
    slabs = model.tokenizer.tokenize(text, codes, words)
    return [window for some in plan_windows(codes, words, slabs, model.shape) for window in some]


def scores(scorer: Any, windows: Sequence[Window]) -> np.ndarray:
    scored = scorer.launch(windows, "score").scores()
    assert not scored.failed.any()
    return np.asarray(scored.values, np.int64)


def unlike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of decisions at keep 0.5 that differ."""
    kept = []
    for values in (one, other):
        chosen = np.zeros(values.size, bool)
        chosen[np.argsort(-values, kind="stable")[: values.size // 2]] = True
        kept.append(chosen)
    return float((kept[0] != kept[1]).mean())


def without_graphs(model: OpenedModel) -> PackedScorer:
    scorer = model.scorer
    assert isinstance(scorer, PackedScorer)
    return PackedScorer(scorer._encoder, keep_label=scorer._keep, device=scorer.device, fingerprint="")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_a_replayed_graph_gives_what_single_kernels_give(precision: Any) -> None:
    model = opened(precision=precision)
    assert isinstance(model.scorer, PackedScorer)
    assert model.scorer.graph_sizes[0] == 256 and model.scorer.graph_sizes[-1] == 32_768
    eager, windows = without_graphs(model), windows_of(model)
    for batch in (windows[:1], windows[:3], windows, windows * 5):
        replayed, single = scores(model.scorer, batch), scores(eager, batch)
        assert len(set(single.tolist())) > 20
        assert np.abs(replayed - single).max() <= ONE_BYTE
        assert np.array_equal(replayed, scores(model.scorer, batch))
    model.scorer.close()


def test_a_batch_scores_as_single_windows_do() -> None:
    model = opened()
    windows = windows_of(model)
    together = scores(model.scorer, windows)
    alone = np.concatenate([scores(model.scorer, [window]) for window in windows])
    assert np.abs(together - alone).max() <= ONE_BYTE
    assert unlike(together, alone) < 0.005
    model.scorer.close()


def test_packed_windows_score_as_transformers_scores_them_padded(tmp_path: Path) -> None:
    from compressor.model.description import describe_model
    from compressor.model.transformers_scorer import load_transformers_scorer

    folder = tiny_encoder(tmp_path / "model")
    exact = open_model(CompressorConfig(model=str(folder), device="cuda:0", precision="fp32"))
    theirs = load_transformers_scorer(
        describe_model(folder), "cuda:0", CompressorConfig(precision="fp32"), ""
    )
    windows = windows_of(exact)
    assert np.abs(scores(exact.scorer, windows) - scores(theirs, windows)).max() <= ONE_BYTE
    half = open_model(CompressorConfig(model=str(folder), device="cuda:0", precision="fp16"))
    assert np.abs(scores(half.scorer, windows) - scores(exact.scorer, windows)).mean() < 1


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.005), ("bf16", 0.01), ("fp8", 0.04)])
def test_lower_precision_changes_few_decisions(precision: Any, most: float) -> None:
    exact = opened(precision="fp32")
    windows = windows_of(exact)
    expected = scores(exact.scorer, windows)
    model = opened(precision=precision)
    assert unlike(scores(model.scorer, windows), expected) < most


def test_fp8_is_never_chosen_by_itself() -> None:
    auto, bf16, fp8 = opened(), opened(precision="bf16"), opened(precision="fp8")
    assert auto.scorer.fingerprint == bf16.scorer.fingerprint != fp8.scorer.fingerprint
    windows = windows_of(auto)
    assert np.array_equal(scores(auto.scorer, windows), scores(bf16.scorer, windows))


def test_embeddings_are_unit_vectors_that_do_not_depend_on_the_batch() -> None:
    model = opened()
    windows = windows_of(model)[:8]
    together = model.scorer.launch(windows, "embed").embeddings()
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)
    alone = np.concatenate([model.scorer.launch([window], "embed").embeddings() for window in windows])
    assert np.abs(together - alone).max() < 0.01
    model.scorer.close()


class _LittleMemory:
    """A scorer on a GPU whose memory ends at so many tokens a batch."""

    def __init__(self, scorer: Any, most: int) -> None:
        self.fingerprint, self.device = scorer.fingerprint, scorer.device
        self._scorer, self._most = scorer, most
        self.refused = 0

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        if sum(window.ids.size for window in windows) > self._most:
            self.refused += 1
            raise OutOfDeviceMemory
        running: Running = self._scorer.launch(windows, task)
        return running

    def close(self) -> None:
        self._scorer.close()


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    model = opened()
    scorer = _LittleMemory(model.scorer, 2_000)
    engine = Engine(scorer, model.tokenizer, model.shape, model.limits)
    expected = scores(model.scorer, windows_of(model))

    async def score() -> np.ndarray:
        found = await engine.score(TEXT)
        await engine.close()
        return np.asarray(found.values, np.int64)

    assert np.abs(asyncio.run(score()) - expected).max() <= ONE_BYTE
    assert scorer.refused


def test_real_exhaustion_of_the_device_is_named() -> None:
    """A limit on torch's own memory, below what the batch needs; nothing else on the machine is squeezed."""
    model = opened()
    eager, windows = without_graphs(model), windows_of(model)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved(0) / total + 1e-4, 0)
    try:
        with pytest.raises(OutOfDeviceMemory):
            eager.launch(windows * 40, "score").scores()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert np.abs(scores(eager, windows) - scores(model.scorer, windows)).max() <= ONE_BYTE


def test_callers_at_once_get_what_each_gets_alone() -> None:
    model = opened()
    engine = Engine(model.scorer, model.tokenizer, model.shape, model.limits)
    texts = [f"{number} {TEXT[: 200 * (number + 1)]}" for number in range(40)]

    async def run() -> tuple[list[np.ndarray], list[np.ndarray]]:
        together = [found.values for found in await asyncio.gather(*map(engine.score, texts))]
        alone = [(await engine.score(text)).values for text in texts]
        await engine.close()
        return together, alone

    together, alone = asyncio.run(run())
    one, other = (np.concatenate(parts).astype(np.int64) for parts in (together, alone))
    assert np.abs(one - other).max() <= ONE_BYTE
    assert float((one != other).mean()) < 0.01
