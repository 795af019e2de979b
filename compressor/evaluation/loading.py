"""A causal language model of a Hugging Face folder, loaded once a process whoever asks: the reader and the
methods that score with the same model share its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from compressor.errors import ModelLoadFailed

Made = TypeVar("Made")


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


def in_halves(batch: Sequence[Any], do: Callable[[Sequence[Any]], list[Made]]) -> list[Made]:
    """`do` over the batch, or over its halves where the device has not the memory for all at once.

    Several processes may share a GPU, and none knows what the others need next.
    """
    try:
        return do(batch)
    except torch.OutOfMemoryError:
        if len(batch) < 2:
            raise
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [*in_halves(batch[:middle], do), *in_halves(batch[middle:], do)]
