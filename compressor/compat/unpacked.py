"""The embedded encoder as a transformers model, so that llmlingua's algorithm can be run with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from compressor.model.compact import read_compact, read_tokenizer
from compressor.model.description import describe_model
from compressor.model.weights import EncoderWeights

# Both families' names, in the order of PreTrainedTokenizerFast's keywords below.
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
METASPACE = ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
WORDPIECE = (None, None, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")


def read_unpacked(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a folder in compact form, in float32. Raises ModelLoadFailed."""
    description = describe_model(folder)
    weights = read_compact(description)
    config = BertConfig(
        vocab_size=weights.words.shape[0],
        hidden_size=weights.words.shape[1],
        num_hidden_layers=len(weights.layers),
        num_attention_heads=weights.heads,
        intermediate_size=weights.layers[0].up.weight.shape[0],
        max_position_embeddings=weights.positions.shape[0],
        type_vocab_size=1,
        layer_norm_eps=weights.epsilon,
        pad_token_id=int(description.config.get("pad_token_id") or 0),
        num_labels=len(weights.classifier.bias),
    )
    model = BertForTokenClassification(config)
    model.load_state_dict(state_of(weights), strict=True)
    tokenizer = Tokenizer.from_str(read_tokenizer(folder))
    names = METASPACE if tokenizer.token_to_id("<s>") is not None else WORDPIECE
    given = {key: name for key, name in zip(SPECIAL, names, strict=True) if name is not None}
    return model.eval(), PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given)


def state_of(weights: EncoderWeights) -> dict[str, torch.Tensor]:
    """The weights under BERT's names; token type 0 is part of the positions already."""
    hidden = weights.words.shape[1]
    arrays: dict[str, NDArray[Any]] = {
        "bert.embeddings.word_embeddings.weight": weights.words.rows(
            np.arange(weights.words.shape[0], dtype=np.int32)
        ),
        "bert.embeddings.position_embeddings.weight": weights.positions,
        "bert.embeddings.token_type_embeddings.weight": np.zeros((1, hidden)),
        "bert.embeddings.LayerNorm.weight": weights.norm.scale,
        "bert.embeddings.LayerNorm.bias": weights.norm.shift,
        "classifier.weight": weights.classifier.weight,
        "classifier.bias": weights.classifier.bias,
    }
    for number, layer in enumerate(weights.layers):
        at = f"bert.encoder.layer.{number}"
        for i, part in enumerate(("query", "key", "value")):
            rows = slice(i * hidden, (i + 1) * hidden)
            arrays[f"{at}.attention.self.{part}.weight"] = layer.qkv.weight[rows]
            arrays[f"{at}.attention.self.{part}.bias"] = layer.qkv.bias[rows]
        dense = {"attention.output": layer.out, "intermediate": layer.up, "output": layer.down}
        for name, linear in dense.items():
            arrays[f"{at}.{name}.dense.weight"] = linear.weight
            arrays[f"{at}.{name}.dense.bias"] = linear.bias
        for name, norm in {"attention.output": layer.norm1, "output": layer.norm2}.items():
            arrays[f"{at}.{name}.LayerNorm.weight"] = norm.scale
            arrays[f"{at}.{name}.LayerNorm.bias"] = norm.shift
    return {name: torch.from_numpy(np.asarray(array, dtype=np.float32)) for name, array in arrays.items()}
