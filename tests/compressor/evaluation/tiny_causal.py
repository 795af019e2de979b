"""A causal language model with random weights and a byte-level tokenizer trained on the spot."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEXT = (
    "Document [1](Title: Reaper) The mechanical reaper was invented by Cyrus McCormick in 1831 in Virginia.\n"
    "Document [2](Title: Scythe) A scythe is an agricultural hand tool for mowing grass, used since 500 BC.\n"
    "Document [3](Title: Tractor) The first tractor with petrol engine was built by John Froelich in 1892.\n"
)
QUESTION = "when was the reaper invented?"


def save_causal(folder: Path) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|pad|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([TEXT, QUESTION], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    config = Qwen2Config(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=256, eos_token_id=0,
        pad_token_id=1, bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(5)
    folder.mkdir(parents=True, exist_ok=True)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
