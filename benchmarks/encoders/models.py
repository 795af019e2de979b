"""Encoders of the published shapes with random weights, and llmlingua and transformers run on them."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.encoders.measuring import note, seconds

SHAPES: dict[str, dict[str, Any]] = {
    "embedded": dict(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536),
    "xlmr-large": dict(
        num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096
    ),
    "tiny": dict(
        num_hidden_layers=1, hidden_size=64, num_attention_heads=2, intermediate_size=128
    ),  # rehearses
    "mbert-base": dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
}
# llmlingua reads the family off the path.
REFERENCE_NAME = {
    "embedded": "bert-base-multilingual-cased",
    "tiny": "xlm-roberta-large",
    "xlmr-large": "xlm-roberta-large",
    "mbert-base": "bert-base-multilingual-cased",
}


def make_model(folder: Path, shape: str, tokenizer: Path) -> Path:
    """A random token classifier of a published shape, spread so that scores are not all one half."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForTokenClassification, XLMRobertaConfig
    from transformers import XLMRobertaForTokenClassification as XLMR

    folder.mkdir(parents=True)
    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
    common = {**SHAPES[shape], "vocab_size": vocabulary, "num_labels": 2}
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        if REFERENCE_NAME[shape].startswith("xlm"):
            network: Any = XLMR(
                XLMRobertaConfig(**common, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1)
            )
        else:
            network = BertForTokenClassification(BertConfig(**common, pad_token_id=1))
        network.classifier.weight.data.normal_(0, 0.3)
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


def bench_reference(name: str, folder: Path, text: str, tokens: int, device: str) -> None:
    """llmlingua as shipped."""
    from llmlingua import PromptCompressor

    reference = PromptCompressor(str(folder), device_map=device, use_llmlingua2=True)
    run = lambda: reference.compress_prompt_llmlingua2([text], rate=0.33, force_tokens=["\n"])  # noqa: E731
    times = seconds(run, runs=2 if device == "cuda" else 1, warm_up=1 if device == "cuda" else 0)
    note(name, "llmlingua 0.2.2, text to text", tokens / times[0], "tokens/s")


def bench_encoder_alone(name: str, folder: Path, device: str) -> None:
    """transformers' own pass, without text: eager bf16, 128 x 512."""
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model = model.to(device).eval()
    ids = torch.randint(2000, 20000, (128, 512), device=device)
    with torch.inference_mode():
        times = seconds(lambda: model(input_ids=ids).logits, runs=5, warm_up=2)
    rate = ids.numel() / statistics.median(times)
    note(name, "encoder alone, transformers eager bf16 128 x 512", rate, "tokens/s")
