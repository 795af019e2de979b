"""A causal language model of a Hugging Face folder, loaded once a process whoever asks: the reader and the
methods that score with the same model share its weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from compressor.errors import ModelLoadFailed


@lru_cache(maxsize=2)
def load_causal(folder: str, device: str) -> tuple[Any, Any]:
    """Model and tokenizer: bf16 on a GPU, fp32 on a CPU. Raises ModelLoadFailed."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(Path(folder)), trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(str(Path(folder)), dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadFailed(f"{folder}: no causal language model: {error}") from error
    return model.to(device).eval(), tokenizer
