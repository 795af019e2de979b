"""The encoder's pass at fixed sizes, captured as CUDA graphs: one launch a batch instead of hundreds.

A pass over few tokens takes the GPU less time than Python needs to launch its kernels one by one
(XLM-R-large, 512 tokens: 7.8 ms, replayed 1.3 ms), and those launches keep other threads from Python. A
graph has one size, so a batch is padded to the next larger one: padding tokens belong to no window, rows do
not see each other outside of attention, and their results land in places that nobody reads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.engine.scorer import FIXED_POINT, Window, pool_plan
from compressor.model.packed import Packed, PackedEncoder

_log = logging.getLogger(__name__)

# Tokens of a pass. Close together where a single prompt waits for it, wide where throughput counts.
SIZES = (256, 512, *range(1024, 12_289, 1024), *range(16_384, 32_769, 4096))
_SPREAD = 256  # padding pairs are added up in so many places: thousands of atomic adds on one would queue


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One batch on the host."""

    ids: NDArray[np.int32]  # [tokens]
    positions: NDArray[np.int64]  # [tokens]
    owners: NDArray[np.int64]  # [tokens], each one's window
    bounds: NDArray[np.int64]  # [windows + 1]
    pairs: NDArray[np.int64]  # [pairs], positions of tokens
    slots: NDArray[np.int64]  # [pairs], the word each pair belongs to
    words: int
    windows: int
    longest: int  # tokens of the longest window

    @property
    def tokens(self) -> int:
        return self.ids.size


def plan_batch(windows: Sequence[Window]) -> BatchPlan:
    """All windows' tokens in one row, and which word each belongs to."""
    sizes = np.array([window.ids.size for window in windows])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    pairs, slots, ends = pool_plan(windows)
    return BatchPlan(
        ids=np.concatenate([window.ids for window in windows]),
        positions=np.arange(int(bounds[-1])) - np.repeat(bounds[:-1], sizes),
        owners=np.repeat(np.arange(len(windows)), sizes),
        bounds=bounds,
        pairs=pairs,
        slots=slots,
        words=int(ends[-1]),
        windows=len(windows),
        longest=int(sizes.max()),
    )


@dataclass(frozen=True, slots=True)
class PassSize:
    """What fits into one padded pass."""

    tokens: int
    longest: int  # tokens of a window

    @property
    def windows(self) -> int:
        return self.tokens // 128 + 8

    @property
    def pairs(self) -> int:
        return 2 * self.tokens

    @property
    def words(self) -> int:
        return 2 * self.tokens

    @property
    def parts(self) -> tuple[int, ...]:
        """Lengths of ids, positions, owners, bounds, pairs and slots in the input."""
        return (self.tokens, self.tokens, self.tokens, self.windows + 1, self.pairs, self.pairs)

    @property
    def failed(self) -> int:
        """Bytes of the output before the words': one a window and one for the padding."""
        return self.windows + 1

    def holds(self, plan: BatchPlan) -> bool:
        """Whether the batch fits."""
        return (
            plan.tokens <= self.tokens
            and plan.windows <= self.windows
            and plan.pairs.size <= self.pairs
            and plan.words <= self.words
            and plan.longest <= self.longest
        )

    def write(self, plan: BatchPlan, into: NDArray[np.int32]) -> None:
        """The padded input of the batch."""
        starts = [0, *accumulate(self.parts)]
        places = np.arange(self.pairs - plan.pairs.size) % _SPREAD + self.words
        contents: tuple[tuple[NDArray[Any], Any], ...] = (
            (plan.ids, 0),
            (plan.positions, 0),
            (plan.owners, self.windows),
            (plan.bounds, plan.tokens),
            (plan.pairs, 0),
            (plan.slots, places),
        )
        for start, end, (values, padding) in zip(starts, starts[1:], contents, strict=False):
            into[start : start + values.size] = values
            into[start + values.size : end] = padding


class PaddedPass:
    """The encoder and the pooling at one size. `run` on a GPU replays what was captured when it was made."""

    def __init__(
        self, encoder: PackedEncoder, keep_label: int, size: PassSize, device: str, memory: Any = None
    ) -> None:
        self.size = size
        self._encoder = encoder
        self._keep = keep_label
        # As if of one token, until there is a batch: a pass over nothing is no pass that could be captured.
        first = np.zeros(sum(size.parts), np.int32)
        size.write(_plan_of_one_token(), first)
        self._input = torch.from_numpy(first).to(device)
        self._graph: Any = None
        self._output = self._compute()  # also compiles kernels, which must not happen while capturing
        if device != "cpu":
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"):
                self._output = self._compute()

    def run(self, staged: torch.Tensor) -> torch.Tensor:
        """Bytes [failed + words + spread] of what `size.write` made; the next run overwrites them."""
        self._input.copy_(staged, non_blocking=True)
        if self._graph is None:
            self._output = self._compute()
        else:
            self._graph.replay()
        return self._output

    def _compute(self) -> torch.Tensor:
        size = self.size
        ids, positions, owners, bounds, pairs, slots = torch.split(self._input, list(size.parts))
        states = self._encoder.states(Packed(ids, positions, bounds, size.longest))
        probabilities = self._encoder.keep_probabilities(states, self._keep)
        return pool_on_device(probabilities, (pairs, slots, size.words + _SPREAD), (owners, size.windows + 1))


def capture_passes(
    encoder: PackedEncoder, keep_label: int, device: str, *, most_tokens: int, longest: int
) -> list[PaddedPass]:
    """Passes at all SIZES up to `most_tokens`, smallest first, for windows of up to `longest` tokens.

    They share their memory, which is that of the largest. A size that does not fit the device's memory is
    left out, and so are all that cannot be captured: such batches run without a graph.
    """
    passes: list[PaddedPass] = []
    memory = torch.cuda.graph_pool_handle() if device != "cpu" else None
    for tokens in reversed([size for size in SIZES if longest <= size <= most_tokens]):
        try:
            passes.append(PaddedPass(encoder, keep_label, PassSize(tokens, longest), device, memory))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        except RuntimeError:
            _log.warning("no CUDA graphs on %s", device, exc_info=True)
            break
    return passes[::-1]


def pool_on_device(
    probabilities: torch.Tensor,
    pairs: tuple[torch.Tensor, torch.Tensor, int],
    owners: tuple[torch.Tensor, int],
) -> torch.Tensor:
    """As `pool_words`, bit for bit: uint8 [windows + words], whether each window failed, then the bytes.

    `pairs` are token positions, word slots, and how many slots there are; `owners` each token's window, and
    how many windows there are. Whole-number sums come out the same in any order of adding.
    """
    tokens, slots, count = pairs
    owner, windows = owners
    finite = probabilities.isfinite()
    fixed = (torch.where(finite, probabilities, 0.0).double() * FIXED_POINT).round().long()
    zeros = torch.zeros(count, dtype=torch.int64, device=probabilities.device)
    sums = zeros.index_add(0, slots, fixed[tokens])
    sizes = zeros.index_add(0, slots, torch.ones_like(slots, dtype=torch.int64))
    values = (255.0 * sums / (FIXED_POINT * sizes.clamp(min=1)).double()).round().to(torch.uint8)
    bad = torch.zeros(windows, dtype=torch.int64, device=probabilities.device)
    failed = bad.index_add(0, owner, (~finite).long()).clamp(max=1).to(torch.uint8)
    return torch.cat([failed, values])


def _plan_of_one_token() -> BatchPlan:
    none = np.zeros(0, np.int64)
    one = np.zeros(1, np.int64)
    return BatchPlan(np.zeros(1, np.int32), one, one, np.array([0, 1]), none, none, 0, 1, 1)
