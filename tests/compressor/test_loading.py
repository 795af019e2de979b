"""Every family that transformers knows, found by config and tokenizer; everything else refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from compressor.config import CompressorConfig
from compressor.engine.scorer import Window
from compressor.engine.tokenizing import code_points
from compressor.engine.windows import plan_windows
from compressor.errors import ModelLoadFailed, ScoringFailed
from compressor.model import openvino_scorer
from compressor.model.calibration import SAMPLE
from compressor.model.compact import TOKENIZER_FILE, WEIGHTS_FILE, save_compact
from compressor.model.description import describe_model
from compressor.model.loading import DEFAULT_FOLDER, OpenedModel, choose_device, open_model
from compressor.model.openvino_scorer import OpenVinoScorer
from compressor.model.packed import PackedEncoder
from compressor.model.packed_scorer import PackedScorer
from compressor.model.packing import pack_words
from compressor.model.transformers_scorer import TransformersScorer, load_transformers_scorer
from compressor.model.weights import read_weights
from compressor.startup import open_engine
from compressor.text.words import split_words
from tests.support.tiny_encoder import HIDDEN, TEXTS, tiny_encoder, unigram_tokenizer

TEXT = "\n".join(TEXTS * 4)
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "mobilebert": ("MobileBert", SMALL | {"embedding_size": 16, "intra_bottleneck_size": 32}),
    "modernbert": ("ModernBert", SMALL | {"max_position_embeddings": 8192, "global_attn_every_n_layers": 2}),
    "longformer": ("Longformer", SMALL | {"attention_window": [16, 16], "max_position_embeddings": 4098}),
    "big_bird": ("BigBird", SMALL | {"max_position_embeddings": 4096, "block_size": 16}),
    "electra": ("Electra", SMALL | {"embedding_size": 16}),
}


def run(model: OpenedModel, scorer: Any = None, text: str = TEXT) -> np.ndarray:
    codes, words = code_points(text), split_words(text)
    slabs = model.tokenizer.tokenize(text, codes, words)
    windows = [window for some in plan_windows(codes, words, slabs, model.shape) for window in some]
    scored = (scorer or model.scorer).launch(windows, "score").scores()
    assert scored.values.size == len(words) and not scored.failed.any()
    values: np.ndarray = scored.values
    return values


def opened(folder: Path, **options: Any) -> OpenedModel:
    return open_model(CompressorConfig(model=str(folder), device="cpu", **options))


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_transformers(family: str, tmp_path: Path) -> None:
    name, options = FAMILIES[family]
    tokenizer = unigram_tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        num_labels=2,
        **options,
    )
    getattr(transformers, f"{name}ForTokenClassification")(config).save_pretrained(tmp_path)
    model = opened(tmp_path)
    assert isinstance(model.scorer, TransformersScorer)
    assert model.shape.tokens == (
        config.max_position_embeddings - 2 if family == "longformer" else config.max_position_embeddings
    )
    assert len(set(run(model).tolist())) > 1


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_three_runtimes_agree(family: str, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "anything", family)
    model = opened(folder, precision="fp32")
    assert isinstance(model.scorer, OpenVinoScorer)
    assert model.tokenizer.prefix and model.tokenizer.suffix
    description = describe_model(folder)
    assert description.max_tokens == (130 if family == "bert" else 128)
    packed = PackedEncoder(read_weights(description), "cpu", torch.float32)
    ours = PackedScorer(packed, keep_label=1, device="cpu", fingerprint="")
    theirs = load_transformers_scorer(description, "cpu", CompressorConfig(), "")
    expected = run(model, theirs)
    assert len(set(expected.tolist())) > 20
    assert np.abs(run(model).astype(int) - expected).max() <= 1
    assert np.abs(run(model, ours).astype(int) - expected).max() <= 1
    options: dict[str, Any] = {"keep_label": 1, "device": "cpu", "fingerprint": ""}
    padded = PackedScorer(packed, graph_tokens=2048, longest=model.shape.tokens, **options)
    assert padded.graph_sizes == (256, 512, 1024, 2048)
    for text in (TEXT, TEXT[:40], TEXT[:400], TEXT * 20):
        assert np.array_equal(run(model, padded, text), run(model, ours, text))


def test_half_precision_changes_few_decisions(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    exact = run(opened(folder, precision="fp32")).astype(int)
    for precision in ("bf16", "int8"):
        assert np.abs(run(opened(folder, precision=precision)).astype(int) - exact).mean() < 4


def test_the_keep_label_is_found_by_name(tmp_path: Path) -> None:
    one = run(opened(tiny_encoder(tmp_path / "a", id2label={"0": "keep", "1": "drop"}), precision="fp32"))
    other = run(opened(tiny_encoder(tmp_path / "b"), precision="fp32"))
    assert np.abs(one.astype(int) + other - 255).max() <= 1
    assert describe_model(tiny_encoder(tmp_path / "c", id2label={"0": "x"})).keep_label == 0


def test_fingerprints_follow_what_decides_scores(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    names = [
        opened(folder, **options).scorer.fingerprint
        for options in ({}, {"window_tokens": 64}, {"precision": "int8"}, {"precision": "fp32"})
    ]
    assert len(set(names)) == len(names) or names[0] in names[1:]
    assert opened(folder).scorer.fingerprint == names[0]
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {**tensors, "classifier.bias": np.ones(2, np.float32)}, folder / "model.safetensors", {"format": "pt"}
    )
    assert opened(folder).scorer.fingerprint not in names


def test_compact_form(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "hf", "bert", terse={"rank": "mean-cosine"})
    cost = save_compact(folder, tmp_path / "compact", notes={"window": 96})
    assert cost["layer_error"] < 0.01 and cost["embedding_error"] < 0.12
    assert {path.name for path in (tmp_path / "compact").iterdir()} == {
        "config.json",
        WEIGHTS_FILE,
        TOKENIZER_FILE,
    }
    model = opened(tmp_path / "compact", precision="fp32")
    assert model.shape.tokens == 96 and model.ranking.method == "cosine"
    compact, original = run(model), run(opened(folder, precision="fp32", window_tokens=96))
    order = np.corrcoef(np.argsort(np.argsort(compact)), np.argsort(np.argsort(original)))[0, 1]
    assert order > 0.9
    # Calibrated: the middle of the sample's words is in the middle of the byte. Of the sample's, because the
    # tiny tokenizer is another one at each training, and with it what the encoder says of any other text.
    sample = np.concatenate([run(model, text=text) for text in SAMPLE.read_text().split("\n---\n")])
    assert 80 < np.median(sample) < 176
    assert not (tmp_path / "compact" / "model.safetensors").exists()
    (tmp_path / "compact" / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelLoadFailed, match=WEIGHTS_FILE):  # and not that the tokenizer was missing
        opened(tmp_path / "compact")


def test_four_bits_lose_nothing_of_four_bits() -> None:
    draw = np.random.default_rng(0)
    q = draw.integers(0, 16, (50, HIDDEN)).astype(np.float32)
    q[:, ::32] = 0  # the value farthest from 0, as llama.cpp scales
    scales = np.repeat(draw.uniform(0.01, 0.1, (50, HIDDEN // 32)).astype(np.float16), 32, axis=1)
    values = (scales.astype(np.float32) * (q - 8)).astype(np.float32)
    table = pack_words(values)
    assert np.array_equal(table.rows(np.arange(50, dtype=np.int32)), values)


async def test_nan_weights_are_an_error_not_a_score(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {**tensors, "classifier.bias": np.full(2, np.nan, np.float32)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    engine = open_engine(CompressorConfig(model=str(folder), device="cpu"))
    try:
        with pytest.raises(ScoringFailed, match="not numbers"):
            await engine.score(TEXT)
        assert engine.health().ready
    finally:
        await engine.close()


def test_what_is_refused(tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "no config.json"),
        ("nobody/has-this-model", "nothing is fetched at run time"),
    ):
        with pytest.raises(ModelLoadFailed, match=message):
            open_engine(CompressorConfig(model=str(folder)))
    folder = tiny_encoder(tmp_path / "model")
    with pytest.raises(ModelLoadFailed, match="128 positions"):
        opened(folder, window_tokens=4096)
    with pytest.raises(ModelLoadFailed, match="known are auto"):
        open_engine(CompressorConfig(model=str(folder), device="tpu"))
    with pytest.raises(ModelLoadFailed, match="fp8"):
        opened(folder, precision="fp8")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"not tensors"), "model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "config.json"),
        (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "model_type"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        (lambda f: rewrite(f, architectures=["BertModel"]), "not a token classifier"),
        (lambda f: rewrite(f, num_hidden_layers=5), "config.json says otherwise"),
        (lambda f: rewrite(f, terse={"rank": "magic"}), "magic"),
        (lambda f: drop(f, "classifier.bias"), "missing: classifier.bias"),
        (lambda f: rewrite(f, vocab_size=10), "more tokens than"),
    ],
)
def test_broken_folders(break_it: Any, message: str, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    break_it(folder)
    with pytest.raises(ModelLoadFailed, match=message):
        opened(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path, "bert")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadFailed, match="tokenizer"):
        opened(folder)


def test_auto_means_the_cpu_where_there_is_no_gpu() -> None:
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelLoadFailed, match="no CUDA device"):
        choose_device("cuda:0")


async def test_the_embedded_encoder() -> None:
    assert sum(path.stat().st_size for path in DEFAULT_FOLDER.iterdir()) < 36e6
    engine = open_engine(CompressorConfig(device="cpu"))
    try:
        scores = await engine.score(TEXT)
        assert scores.values.size == len(split_words(TEXT)) and len(set(scores.values.tolist())) > 10
        ranks = await engine.rank(
            "Where is the Eiffel Tower?", ["The Eiffel Tower is in Paris.", "Cheese is old."]
        )
        assert ranks[0] > ranks[1]
    finally:
        await engine.close()


def test_no_embedded_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("compressor.model.loading.DEFAULT_FOLDER", tmp_path)
    with pytest.raises(ModelLoadFailed, match="carries no embedded encoder"):
        open_engine()
    shutil.rmtree(tmp_path)


def test_windows_of_all_lengths_are_computed_at_few_and_score_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO keeps memory for each length that it has seen."""
    model = opened(tiny_encoder(tmp_path / "model"), precision="fp32")
    scorer = model.scorer
    assert isinstance(scorer, OpenVinoScorer)
    ids = np.arange(5, 105, dtype=np.int32)
    none = np.zeros(0, np.int32)
    windows = [Window(ids[:size], none, none, 0, 0) for size in range(1, 101, 3)]
    padded = scorer.log_odds(windows)
    request = scorer._own.request
    assert request.get_input_tensor(0).shape[1] % openvino_scorer.ROUND == 0
    monkeypatch.setattr(openvino_scorer, "ROUND", 1)
    exact = scorer.log_odds(windows)
    assert request.get_input_tensor(0).shape[1] == 100
    for one, other, window in zip(padded, exact, windows, strict=True):
        assert one.shape == other.shape == window.ids.shape
        assert np.allclose(one, other, atol=1e-4)
    means = [np.stack(scorer.launch(windows, "embed").embeddings())]
    monkeypatch.setattr(openvino_scorer, "ROUND", 16)
    means.append(np.stack(scorer.launch(windows, "embed").embeddings()))
    assert np.allclose(*means, atol=1e-4)
