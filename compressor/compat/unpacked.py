"""The embedded encoder as a transformers model, so that llmlingua's algorithm can be run with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from compressor.model.compact import read_compact, read_tokenizer
from compressor.model.description import describe_model
from compressor.model.weights import bert_arrays

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
    arrays = bert_arrays(weights, token_types=1)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    tokenizer = Tokenizer.from_str(read_tokenizer(folder))
    names = METASPACE if tokenizer.token_to_id("<s>") is not None else WORDPIECE
    given = {key: name for key, name in zip(SPECIAL, names, strict=True) if name is not None}
    return model.eval(), PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given)
