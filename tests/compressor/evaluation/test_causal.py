from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compressor.errors import ModelLoadFailed
from compressor.evaluation import causal as causal_module
from compressor.evaluation.causal import CausalModel
from tests.compressor.evaluation.tiny_causal import TEXT


def slow_surprisals(model: CausalModel, ids: list[int]) -> list[float]:
    """One forward pass over one sequence, straight from the definition."""
    whole = torch.tensor([[0, *ids]])
    with torch.inference_mode():
        logits = model._model(input_ids=whole).logits[0].log_softmax(-1)
    return [-float(logits[at, token]) for at, token in enumerate(ids)]


def test_surprisals_are_those_of_one_sequence_alone(causal: CausalModel) -> None:
    sequences = [causal.encode(TEXT), causal.encode("in 1831"), causal.encode("John Froelich in 1892")]
    for found, ids in zip(causal.surprisals(sequences), sequences, strict=True):
        np.testing.assert_allclose(found, slow_surprisals(causal, ids), rtol=1e-3, atol=1e-4)


def test_small_batches_and_slices_of_logits_change_nothing(
    causal: CausalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [causal.encode(line) for line in TEXT.splitlines()]
    expected = causal.surprisals(sequences)
    monkeypatch.setattr(causal_module, "BATCH_TOKENS", 50)
    monkeypatch.setattr(causal_module, "LOGIT_ROWS", 7)
    for left, right in zip(causal.surprisals(sequences), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)


def test_empty_sequences_have_no_surprisal(causal: CausalModel) -> None:
    first, second = causal.surprisals([[], causal.encode("in")])
    assert len(first) == 0 and len(second) > 0
    assert causal.surprisals([]) == []


def test_text_longer_than_the_model_reads_is_scored_in_windows(causal: CausalModel) -> None:
    ids = causal.encode(TEXT * 6)
    assert len(ids) > 256
    found = causal.surprisals([ids])[0]
    assert len(found) == len(ids) and (found > 0).all()
    np.testing.assert_allclose(found[:255], slow_surprisals(causal, ids[:255]), rtol=1e-3, atol=1e-4)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=str(tmp_path)):
        CausalModel.open(tmp_path)
