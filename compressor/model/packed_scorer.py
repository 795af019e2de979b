"""BERT-shaped encoders on a GPU: packed batches in bf16 or float8, scores pooled on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.engine.scorer import FIXED_POINT, OutOfDeviceMemory, Running, Scored, Task, Window, pool_plan
from compressor.model.packed import Packed, PackedEncoder


class PackedScorer:
    """A `Scorer`. One copy to the device and one back a batch; `launch` returns while the device works.

    Products of different numbers of rows may differ in a last bit, so a word's byte may differ by one between
    two batches (how often: `benchmarks/results/compressor-h200.md`).
    """

    def __init__(self, encoder: PackedEncoder, *, keep_label: int, device: str, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.device = device
        self._encoder = encoder
        self._keep = keep_label

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Queues the batch on the device."""
        try:
            with torch.inference_mode():
                return self._launch(windows, task)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise OutOfDeviceMemory from None

    def close(self) -> None:
        """Frees the weights."""
        del self._encoder
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _launch(self, windows: Sequence[Window], task: Task) -> Running:
        sizes = np.array([window.ids.size for window in windows])
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        total = int(bounds[-1])
        positions = np.arange(total) - np.repeat(bounds[:-1], sizes)
        owners = np.repeat(np.arange(len(windows)), sizes)
        pairs, words, slots = pool_plan(windows)
        parts = [np.concatenate([window.ids for window in windows]), positions, owners, bounds, pairs, words]
        ids, positions_, owners_, bounds_, pairs_, words_ = self._send(parts)
        batch = Packed(ids, positions_, bounds_, int(sizes.max()))
        states = self._encoder.states(batch)
        if task == "embed":
            means = torch.segment_reduce(states.float(), "mean", offsets=bounds_.long(), axis=0)
            return PackedBatch(self._fetch(torch.nn.functional.normalize(means, dim=1)), 0)
        probabilities = self._encoder.keep_probabilities(states, self._keep)
        values, failed = pool_on_device(
            probabilities, (pairs_, words_, int(slots[-1])), (owners_, len(windows))
        )
        return PackedBatch(self._fetch(torch.cat([values, failed])), len(windows))

    def _send(self, parts: Sequence[NDArray[np.integer]]) -> Sequence[torch.Tensor]:
        """All arrays to the device in one copy, int32."""
        host = torch.from_numpy(np.concatenate(parts).astype(np.int32))
        if self.device != "cpu":
            host = host.pin_memory()
        return torch.split(host.to(self.device, non_blocking=True), [part.size for part in parts])

    def _fetch(self, result: torch.Tensor) -> _Fetched:
        """Starts the copy back."""
        if self.device == "cpu":
            return _Fetched(result, None)
        host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        host.copy_(result, non_blocking=True)
        event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return _Fetched(host, event)


@dataclass(frozen=True, slots=True)
class _Fetched:
    host: torch.Tensor
    event: torch.cuda.Event | None

    def wait(self) -> torch.Tensor:
        if self.event is not None:
            self.event.synchronize()
        return self.host


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch on the device's queue."""

    fetched: _Fetched
    windows: int

    def scores(self) -> Scored:
        """Waits for the copy."""
        found: NDArray[np.uint8] = self.fetched.wait().numpy()
        words = found.size - self.windows
        return Scored(found[:words], found[words:].astype(np.bool_))

    def embeddings(self) -> NDArray[np.float32]:
        """One unit vector a window."""
        return np.asarray(self.fetched.wait().numpy(), np.float32)


def pool_on_device(
    probabilities: torch.Tensor,
    pairs: tuple[torch.Tensor, torch.Tensor, int],
    owners: tuple[torch.Tensor, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `pool_words`, bit for bit: bytes [words] and, uint8, whether each window failed [windows].

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
    return values, bad.index_add(0, owner, (~finite).long()).clamp(max=1).to(torch.uint8)
