"""Attention for writing many replies at once with a model whose query heads share keys and values.

transformers' `sdpa` repeats keys and values for every query head as soon as a batch is padded, at every
token that is written: with six queries a key (Qwen2.5 1.5B) seven times the memory traffic. One new token
needs no repeating: the queries that share a key are taken as so many places of one head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "grouped_sdpa"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [rows, heads, places, width] over `key` and `value` [rows, shared heads, tokens, width].

    Gives [rows, places, heads, width], as transformers' attention functions do.
    """
    rows, heads, places, width = query.shape
    shared = key.shape[1]
    if places != 1 or shared == heads:
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found, None
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[2]]
    asked = query.reshape(rows, shared, heads // shared, width)
    out = F.scaled_dot_product_attention(
        asked, key, value, attn_mask=attention_mask, scale=options.get("scaling")
    )
    return out.reshape(rows, heads, 1, width).transpose(1, 2).contiguous(), None


def register() -> str:
    """Makes the function known to transformers; returns the name to pass as `attn_implementation`."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
