"""Token classifiers of a few kilobytes with random weights, made without torch; their tokenizers are real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 64, 2, 2, 128, 130
TEXTS = (
    "The meeting began at ten. Everybody agreed that the budget of 3.14 million was too small for this year!",
    "Wir haben gestern über den Plan gesprochen; er kostet 1.250 Euro. El informe llegó tarde.\nNext item.",
    '会议在上午十点开始。大家同意预算太少。The API at https://example.com/v1 returned {"id": 42} twice?',
)


def tiny_encoder(folder: Path, family: str = "xlm-roberta", **changes: Any) -> Path:
    """A folder with config.json, tokenizer.json and model.safetensors; `changes` go into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = wordpiece_tokenizer() if family == "bert" else unigram_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    prefix = "bert" if family == "bert" else "roberta"
    config = {
        "model_type": family,
        "architectures": [f"{'Bert' if family == 'bert' else 'XLMRoberta'}ForTokenClassification"],
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "pad_token_id": tokenizer.token_to_id("[PAD]" if family == "bert" else "<pad>"),
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = random_weights(config, prefix)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


def random_weights(config: dict[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Hugging Face names, spread widely enough that scores differ from word to word."""
    draw = np.random.default_rng(7)
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def dense(rows: int, columns: int, size: float) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) * size).astype(np.float32)

    emb = f"{prefix}.embeddings"
    tensors = {
        f"{emb}.word_embeddings.weight": dense(config["vocab_size"], hidden, 1.0),
        f"{emb}.position_embeddings.weight": dense(config["max_position_embeddings"], hidden, 0.1),
        f"{emb}.token_type_embeddings.weight": dense(2, hidden, 0.1),
        "classifier.weight": dense(len(config["id2label"]), hidden, 0.4),
        "classifier.bias": np.zeros(len(config["id2label"]), np.float32),
    }
    norms = [f"{emb}.LayerNorm"]
    for number in range(config["num_hidden_layers"]):
        at = f"{prefix}.encoder.layer.{number}"
        linears = {f"{at}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linears[f"{at}.attention.output.dense"] = (hidden, hidden)
        linears[f"{at}.intermediate.dense"] = (inner, hidden)
        linears[f"{at}.output.dense"] = (hidden, inner)
        for name, (rows, columns) in linears.items():
            tensors[f"{name}.weight"] = dense(rows, columns, 1.5 / columns**0.5)
            tensors[f"{name}.bias"] = dense(1, rows, 0.02)[0]
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name in norms:
        tensors[f"{name}.weight"] = 1 + dense(1, hidden, 0.05)[0]
        tensors[f"{name}.bias"] = dense(1, hidden, 0.05)[0]
    return tensors


def unigram_tokenizer() -> Tokenizer:
    """As XLM-R's: NFKC, spaces as ▁, <s> and </s> around."""
    tokenizer = Tokenizer(models.Unigram(_unigram_pieces(), unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _unigram_pieces() -> list[tuple[str, float]]:
    """Every letter, and the beginnings of every word; longer ones are likelier. Training would draw lots."""
    pieces = {letter for text in TEXTS for letter in text if not letter.isspace()} | {"▁"}
    for word in " ".join(TEXTS).split():
        pieces.update("▁" + word[:size] for size in range(1, min(len(word), 6) + 1))
    scored = [(piece, -10.0 + len(piece)) for piece in sorted(pieces)]
    return [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scored]


def wordpiece_tokenizer() -> Tokenizer:
    """As multilingual BERT's: words, then ## pieces, [CLS] and [SEP] around."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=220, special_tokens=special))
    first, last = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)]
    )
    return tokenizer
