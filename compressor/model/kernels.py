"""Triton kernels of the packed encoder: what cuBLAS and flash attention leave, one pass of memory each.

Imported only on a GPU. One program handles one row; a row fits in registers (hidden sizes up to 8,192).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

FP8_MAX = 448.0  # largest float8_e4m3fn
_QUERIES, _KEYS = 128, 64  # tokens of a window that one step of attention compares


@triton.jit
def _add_norm(  # noqa: PLR0913
    x,
    residual,
    scale,
    shift,
    out,
    quantized,
    row_scales,
    columns,
    epsilon,
    BLOCK: tl.constexpr,
    FP8: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(residual + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, 0) / columns
    centred = tl.where(inside, values - mean, 0.0)
    variance = tl.sum(centred * centred, 0) / columns
    weight = tl.load(scale + at, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(shift + at, mask=inside, other=0.0).to(tl.float32)
    result = centred * tl.rsqrt(variance + epsilon) * weight + bias
    tl.store(out + row * columns + at, result.to(out.dtype.element_ty), mask=inside)
    if FP8:
        size = tl.maximum(tl.max(tl.abs(tl.where(inside, result, 0.0)), 0) / 448.0, 1e-12)
        tl.store(quantized + row * columns + at, (result / size).to(tl.float8e4nv), mask=inside)
        tl.store(row_scales + row, size)


@triton.jit
def _quantize(x, quantized, row_scales, columns, BLOCK: tl.constexpr, GELU: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        values = 0.5 * values * (1.0 + tl.erf(values * 0.7071067811865476))
    size = tl.maximum(tl.max(tl.abs(values), 0) / 448.0, 1e-12)
    tl.store(quantized + row * columns + at, (values / size).to(tl.float8e4nv), mask=inside)
    tl.store(row_scales + row, size)


@triton.jit
def _attend(  # noqa: PLR0913
    qkv,
    bounds,
    out,
    row_stride,
    hidden,
    scale,
    SIZE: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Some queries of one head in one window against all keys of the window (Dao, FlashAttention-2, 2023)."""
    start = tl.load(bounds + tl.program_id(2))
    length = tl.load(bounds + tl.program_id(2) + 1) - start
    first = tl.program_id(0) * QUERIES
    if first >= length:
        return
    rows = first + tl.arange(0, QUERIES)
    keys = tl.arange(0, KEYS)
    parts = tl.arange(0, SIZE)
    base = qkv + start.to(tl.int64) * row_stride + tl.program_id(1) * SIZE
    queries = tl.load(
        base + rows[:, None] * row_stride + parts[None, :], mask=rows[:, None] < length, other=0.0
    )
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    found = tl.zeros([QUERIES, SIZE], tl.float32)
    for at in range(0, length, KEYS):
        inside = at + keys < length
        places = base + (at + keys)[:, None] * row_stride + parts[None, :]
        key = tl.load(places + hidden, mask=inside[:, None], other=0.0)
        scores = tl.dot(queries, tl.trans(key)) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        fade = tl.exp2(highest - higher)
        value = tl.load(places + 2 * hidden, mask=inside[:, None], other=0.0)
        found = tl.dot(weights.to(value.dtype), value, found * fade[:, None])
        total = total * fade + tl.sum(weights, 1)
        highest = higher
    places = out + (start.to(tl.int64) + rows[:, None]) * hidden + tl.program_id(1) * SIZE + parts[None, :]
    tl.store(places, (found / total[:, None]).to(out.dtype.element_ty), mask=rows[:, None] < length)


def attend(qkv: torch.Tensor, bounds: torch.Tensor, longest: int, heads: int) -> torch.Tensor:
    """Each token's look at its own window: [tokens, 3 x hidden] to [tokens, hidden].

    `bounds` [windows + 1] int32 says where windows start; rows past the last are left as they are.
    """
    tokens, hidden = qkv.shape[0], qkv.shape[1] // 3
    size = hidden // heads
    out = torch.empty((tokens, hidden), dtype=qkv.dtype, device=qkv.device)
    grid = (triton.cdiv(longest, _QUERIES), heads, bounds.shape[0] - 1)
    scale = size**-0.5 * 1.4426950408889634  # powers of two are cheaper than of e
    _attend[grid](
        qkv, bounds, out, qkv.stride(0), hidden, scale,
        SIZE=size, QUERIES=_QUERIES, KEYS=_KEYS, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


def attends(hidden: int, heads: int) -> bool:
    """Whether `attend` is made for heads of this size."""
    return hidden // heads in (16, 32, 64, 128)


def add_norm(  # noqa: PLR0913
    x: torch.Tensor,
    residual: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    epsilon: float,
    fp8: bool,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """Layer norm of `x + residual`, [tokens, hidden] in `dtype`; with `fp8` also row-scaled in float8."""
    rows, columns = x.shape
    out = torch.empty_like(x, dtype=dtype)
    quantized, scales = _fp8_buffers(x) if fp8 else (out, out)
    block = triton.next_power_of_2(columns)
    _launch(_add_norm, rows, block)(
        x, residual, scale, shift, out, quantized, scales, columns, epsilon, BLOCK=block, FP8=fp8
    )
    return out, (quantized, scales) if fp8 else None


def quantize_rows(x: torch.Tensor, *, gelu: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Float8 [tokens, columns] and its scales [tokens, 1], of `gelu(x)` if asked."""
    quantized, scales = _fp8_buffers(x)
    block = triton.next_power_of_2(x.shape[1])
    _launch(_quantize, x.shape[0], block)(x, quantized, scales, x.shape[1], BLOCK=block, GELU=gelu)
    return quantized, scales


def _fp8_buffers(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    quantized = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    return quantized, torch.empty((x.shape[0], 1), dtype=torch.float32, device=x.device)


def _launch(kernel: Any, rows: int, block: int) -> Any:
    """The kernel over this many rows; a warp per 256 columns measured well from 384 to 4,096."""
    warps = min(16, max(1, block // 256))

    def run(*arguments: Any, **constants: Any) -> None:
        kernel[(rows,)](*arguments, num_warps=warps, **constants)

    return run
