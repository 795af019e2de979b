"""Weights in 4 and 8 bits, in numpy.

Word embeddings use llama.cpp's Q4_0: 32 values share an fp16 scale, a value is scale x (q - 8), q in 0..15.
Linear layers use 64 values a scale, value = scale x q, q in -127..127.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.model.weights import Floats

_WORD_BLOCK = 32
LINEAR_BLOCK = 64  # the group over which OpenVINO's int8 kernels quantise activations, too


@dataclass(frozen=True, slots=True)
class FourBitTable:
    """Word embeddings in Q4_0 blocks, unpacked row by row as they are looked up."""

    packed: NDArray[np.uint8]  # [vocabulary, hidden / 2], the even value in the low half
    scales: NDArray[np.float16]  # [vocabulary, hidden / 32]

    @property
    def shape(self) -> tuple[int, int]:
        return self.packed.shape[0], 2 * self.packed.shape[1]

    def rows(self, ids: NDArray[np.int32]) -> Floats:
        """Embeddings of these tokens, [tokens, hidden]."""
        packed = self.packed[ids]
        values = np.empty((ids.size, self.shape[1]), np.float32)
        values[:, 0::2] = packed & 15
        values[:, 1::2] = packed >> 4
        values -= 8
        blocks = values.reshape(ids.size, -1, _WORD_BLOCK)
        blocks *= self.scales[ids].astype(np.float32)[:, :, None]
        return values


def pack_words(values: Floats) -> FourBitTable:
    """Q4_0 of [vocabulary, hidden], as llama.cpp does it: the value farthest from 0 becomes q = 0 exactly."""
    blocks = values.reshape(values.shape[0], -1, _WORD_BLOCK).astype(np.float64)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[:, :, None], 2)
    scales = (farthest / -8).astype(np.float16)
    divisors = np.where(scales == 0, 1, scales).astype(np.float64)
    q = np.clip(np.rint(blocks / divisors) + 8, 0, 15).astype(np.uint8).reshape(values.shape)
    return FourBitTable(q[:, 0::2] | (q[:, 1::2] << 4), scales[:, :, 0])


def pack_linear(weight: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """[out, in] as int8 of the same shape and scales [out, in / 64]."""
    blocks = weight.reshape(weight.shape[0], -1, LINEAR_BLOCK)
    scales = (np.abs(blocks).max(2, keepdims=True) / 127).astype(np.float16)
    divisors = np.where(scales == 0, 1, scales).astype(np.float32)
    q = np.clip(np.rint(blocks / divisors), -127, 127).astype(np.int8)
    return q.reshape(weight.shape), scales[:, :, 0]


def unpack_linear(packed: NDArray[np.int8], scales: NDArray[np.float16]) -> Floats:
    """The inverse of `pack_linear`, [out, in]."""
    blocks = packed.reshape(packed.shape[0], -1, LINEAR_BLOCK).astype(np.float32)
    return np.asarray((blocks * scales.astype(np.float32)[:, :, None]).reshape(packed.shape), np.float32)
