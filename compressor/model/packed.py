"""A BERT-shaped encoder over packed windows: all tokens of a batch in one [tokens, hidden] array, no padding.

Reads like the paper: embeddings, then per layer attention and a feed-forward block, each added to its input
and normalised. Windows meet only in attention, which is told where they start (`bounds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from compressor.model.weights import EncoderWeights, Layer, Linear, Norm

_FP8_MAX = 448.0


@dataclass(frozen=True, slots=True)
class Packed:
    """One batch on the device."""

    ids: torch.Tensor  # [tokens]
    positions: torch.Tensor  # [tokens], 0 at each window's first
    bounds: torch.Tensor  # [windows + 1] int32, where windows start; tokens past the last are padding
    longest: int  # tokens of the longest window, or more


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """A linear layer in bf16 or fp32."""

    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor  # [out]


@dataclass(frozen=True, slots=True)
class Float8Weight:
    """A linear layer in float8, one scale a row of the weight."""

    weight: torch.Tensor  # [in, out], column-major as the tensor cores want it
    scales: torch.Tensor  # [1, out]
    bias: torch.Tensor  # [out] bf16


Weight = DenseWeight | Float8Weight
NormWeight = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One transformer layer on the device."""

    qkv: Weight
    out: Weight
    norm1: NormWeight
    up: Weight
    down: Weight
    norm2: NormWeight


class PackedEncoder:
    """Weights on a device and the forward pass over them."""

    def __init__(
        self, weights: EncoderWeights, device: str, dtype: torch.dtype, *, fp8: bool = False
    ) -> None:
        self._dtype = dtype
        self._device = device
        self._heads = weights.heads
        self._epsilon = weights.epsilon
        every = np.arange(weights.words.shape[0], dtype=np.int32)
        self._words = self._put(weights.words.rows(every))
        self._positions = self._put(weights.positions)
        self._norm = self._norm_weight(weights.norm)
        # The last layer stays out of float8: it alone made half of float8's changed decisions.
        last = len(weights.layers) - 1
        self._layers = [
            self._layer(layer, fp8=fp8 and number < last) for number, layer in enumerate(weights.layers)
        ]
        # In fp32: rounding the log-odds to bf16 alone changed 0.6 % of the decisions of the shipped encoder.
        self._classifier = DenseWeight(
            self._put(weights.classifier.weight, torch.float32),
            self._put(weights.classifier.bias, torch.float32),
        )

    def states(self, batch: Packed) -> torch.Tensor:
        """The last layer's states, [tokens, hidden] fp32, whatever the layers count in."""
        x = self._words[batch.ids] + self._positions[batch.positions]
        x = F.layer_norm(x, x.shape[1:], *self._norm, self._epsilon)
        quantized = self._quantize(x, self._layers[0].qkv)
        for layer, following in zip(self._layers, [*self._layers[1:], None], strict=True):
            seen = self._attention(self._linear(layer.qkv, x, quantized), batch)
            seen = self._linear(layer.out, seen, self._quantize(seen, layer.out))
            x, quantized = self._add_norm(seen, x, layer.norm1, layer.up)
            seen = self._feed_forward(layer, x, quantized)
            x, quantized = self._add_norm(seen, x, layer.norm2, following.qkv if following else None)
        return x

    def keep_probabilities(self, states: torch.Tensor, label: int) -> torch.Tensor:
        """P(keep) of each token, [tokens] fp32."""
        logits = F.linear(states, self._classifier.weight, self._classifier.bias)
        return (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1))[:, label]

    def _attention(self, qkv: torch.Tensor, batch: Packed) -> torch.Tensor:
        """Every token looks at its own window: [tokens, 3 x hidden] to [tokens, hidden]."""
        tokens, hidden = qkv.shape[0], qkv.shape[1] // 3
        query, key, value = qkv.view(tokens, 3, self._heads, hidden // self._heads).unbind(1)
        if qkv.is_cuda and qkv.dtype is not torch.float32:
            from compressor.model.kernels import attend, attends

            if attends(hidden, self._heads):
                return attend(qkv, batch.bounds, batch.longest, self._heads)
            from torch.nn.attention.varlen import varlen_attn

            bounds, longest = batch.bounds, batch.longest
            seen: Any = varlen_attn(query, key, value, bounds, bounds, longest, longest)
            return torch.Tensor.reshape(seen, (tokens, hidden))
        found = qkv.new_zeros((tokens, hidden))
        for start, end in pairwise(batch.bounds.tolist()):
            if end > start:
                q, k, v = (part[start:end].transpose(0, 1)[None] for part in (query, key, value))
                window = F.scaled_dot_product_attention(q, k, v)[0]
                found[start:end] = window.transpose(0, 1).reshape(-1, hidden)
        return found

    def _feed_forward(
        self, layer: LayerWeights, x: torch.Tensor, quantized: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        if isinstance(layer.down, Float8Weight):
            from compressor.model.kernels import quantize_rows

            inner = self._linear(layer.up, x, quantized)
            return self._linear(layer.down, inner, quantize_rows(inner, gelu=True))
        if x.is_cuda and isinstance(layer.up, DenseWeight) and self._dtype is not torch.float32:
            # One cuBLAS call with GELU at its end: the tanh form, closer to the exact one than bf16 can tell.
            inner = torch._addmm_activation(layer.up.bias, x, layer.up.weight.t(), use_gelu=True)
        else:
            inner = F.gelu(self._linear(layer.up, x, None))
        return self._linear(layer.down, inner, None)

    def _linear(
        self, part: Weight, x: torch.Tensor, quantized: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        if isinstance(part, DenseWeight):
            return torch.addmm(part.bias, x, part.weight.t())
        assert quantized is not None
        values, scales = quantized
        return torch._scaled_mm(
            values,
            part.weight,
            scales,
            part.scales,
            bias=part.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )

    def _add_norm(
        self, x: torch.Tensor, residual: torch.Tensor, norm: NormWeight, reader: Weight | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """Layer norm of the sum, with its float8 form if its reader wants one; fp32 without reader."""
        if x.is_cuda and self._dtype is not torch.float32:
            from compressor.model.kernels import add_norm

            dtype = torch.float32 if reader is None else self._dtype
            return add_norm(x, residual, *norm, self._epsilon, isinstance(reader, Float8Weight), dtype)
        if reader is None:
            both = x.float() + residual.float()
            return F.layer_norm(both, x.shape[1:], norm[0].float(), norm[1].float(), self._epsilon), None
        return F.layer_norm(x + residual, x.shape[1:], *norm, self._epsilon), None

    def _quantize(self, x: torch.Tensor, reader: Weight) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not isinstance(reader, Float8Weight):
            return None
        from compressor.model.kernels import quantize_rows

        return quantize_rows(x)

    def _layer(self, layer: Layer, *, fp8: bool) -> LayerWeights:
        return LayerWeights(
            self._weight(layer.qkv, fp8),
            self._weight(layer.out, fp8),
            self._norm_weight(layer.norm1),
            self._weight(layer.up, fp8),
            self._weight(layer.down, fp8),
            self._norm_weight(layer.norm2),
        )

    def _weight(self, part: Linear, fp8: bool) -> Weight:
        if not fp8:
            return DenseWeight(self._put(part.weight), self._put(part.bias))
        weight = torch.from_numpy(part.weight).to(self._device)
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / _FP8_MAX
        values = (weight / scales).to(torch.float8_e4m3fn)
        return Float8Weight(values.t(), scales.t().contiguous(), self._put(part.bias))

    def _norm_weight(self, norm: Norm) -> NormWeight:
        return self._put(norm.scale), self._put(norm.shift)

    def _put(self, values: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device, dtype or self._dtype)
