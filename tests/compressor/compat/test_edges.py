"""Where llmlingua crashes or would read the wrong thing: what compat mode does instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from compressor.compat import LLMLinguaOptions, compress_llmlingua
from compressor.compat.model import LLMLinguaModel
from compressor.compat.pieces import PieceRules, chunk_pieces
from compressor.compat.words import ScoredChunk, merge_pieces
from compressor.errors import InvalidBudget, InvalidOption, ModelLoadFailed

TEXT = "the committee budget was delayed because of item 3.14, see https://a.example/b. never again"


@pytest.fixture(scope="module", params=["xlmr", "mbert"])
def model(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> LLMLinguaModel:
    return LLMLinguaModel.open(model_folders[request.param])


@pytest.mark.parametrize("context", ["", " ", "\n", [], ["", ""], ["the budget", ""]])
def test_empty_contexts_are_no_crash(context: str | list[str], model: LLMLinguaModel) -> None:
    result = compress_llmlingua(model, context, rate=0.5, use_context_level_filter=True)
    assert result.compressed_tokens <= max(result.origin_tokens, 1)
    assert set(result.as_dict()) >= {
        "compressed_prompt",
        "compressed_prompt_list",
        "origin_tokens",
        "ratio",
        "rate",
    }


def test_a_target_over_an_empty_text_divides_nothing(model: LLMLinguaModel) -> None:
    assert compress_llmlingua(model, "", target_token=5).compressed_prompt == ""


def test_special_tokens_of_tiktoken_are_text(model: LLMLinguaModel) -> None:
    assert compress_llmlingua(model, TEXT + " <|endoftext|>", rate=0.5).origin_tokens > 20


@pytest.mark.parametrize("rate", [0.0, -0.5])
def test_a_rate_of_nothing_is_refused(rate: float, model: LLMLinguaModel) -> None:
    with pytest.raises(InvalidBudget):
        compress_llmlingua(model, TEXT, rate=rate)


@pytest.mark.parametrize(
    "options",
    [{"tempo": 1}, {"force_tokens": [str(n) for n in range(101)]}, {"token_to_word": "max"}],
)
def test_wrong_options_are_named(options: dict[str, object], model: LLMLinguaModel) -> None:
    with pytest.raises(InvalidOption):
        compress_llmlingua(model, TEXT, **options)


def test_everything_kept_is_what_llmlingua_calls_everything(model: LLMLinguaModel) -> None:
    result = compress_llmlingua(model, TEXT, rate=1.0)
    assert "budget" in result.compressed_prompt and result.ratio == pytest.approx(1.0, abs=0.3)


def test_labels_name_every_word(model: LLMLinguaModel) -> None:
    result = compress_llmlingua(model, TEXT, rate=0.5, return_word_label=True)
    assert result.labels is not None and {label for _, label in result.labels} == {0, 1}
    line = result.as_dict()["fn_labeled_original_prompt"]
    assert line.count("\t\t|\t\t") == len(result.labels) - 1


def test_a_folder_without_tokenizer_configuration_is_refused(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(model_folders["xlmr"], folder)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelLoadFailed, match="tokenizer_config"):
        LLMLinguaModel.open(folder)
    with pytest.raises(ModelLoadFailed):
        LLMLinguaModel.open(tmp_path / "missing" / "folder")


def test_nothing_is_fetched_for_a_hub_name() -> None:
    with pytest.raises(ModelLoadFailed, match="hf download"):
        LLMLinguaModel.open("nobody/no-such-model")


def test_the_embedded_weights_run_through_llmlinguas_algorithm() -> None:
    model = LLMLinguaModel.open("default")
    result = compress_llmlingua(model, TEXT, rate=0.5)
    assert 0 < result.compressed_tokens < result.origin_tokens
    # The algorithm joins pieces of a word whose middle went, so words are compared sign by sign, in order.
    signs = iter(TEXT)
    assert result.compressed_prompt.strip()
    assert all(sign in signs for sign in "".join(result.compressed_prompt.split()))


def test_chunks_end_at_end_tokens_and_may_be_one_too_long() -> None:
    pieces = ["a"] * 12
    pieces[3] = "."
    assert chunk_pieces(pieces, frozenset("."), 5) == [(0, 4), (4, 10), (10, 12)]
    assert chunk_pieces(pieces[:5], frozenset("."), 5) == [(0, 5)]
    assert chunk_pieces([], frozenset("."), 5) == []


def test_forced_and_digit_pieces_are_diluted_by_the_mean() -> None:
    rules = PieceRules("metaspace", frozenset({"</s>"}), ("x",), ())
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.9], dtype=np.float32)
    chunk = ScoredChunk(("▁ab", "1", "▁x", "y", "</s>"), scores)
    found = merge_pieces(chunk, rules, LLMLinguaOptions(force_reserve_digit=True, force_tokens=("x",)))
    assert found.words == ["▁ab1", "▁xy"]
    assert found.probabilities == [pytest.approx(0.55), pytest.approx(0.7)]  # (0.1 + 1) / 2, (1 + 0.4) / 2
    assert found.unforced == [
        pytest.approx(0.1),
        pytest.approx(0.3),
    ]  # the first piece's, twice: a fault kept
