"""BERT-shaped encoders on a GPU: packed batches in bf16 or float8, scores pooled on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.engine.scorer import OutOfDeviceMemory, Running, Scored, Task, Window
from compressor.model.packed import Packed, PackedEncoder
from compressor.model.padded_pass import BatchPlan, PaddedPass, capture_passes, plan_batch, pool_on_device


class PackedScorer:
    """A `Scorer`. One copy to the device and one back a batch; `launch` returns while the device works.

    Passes of up to `graph_tokens` tokens over windows of up to `longest` replay a CUDA graph of the next
    larger size; 0 for none. Products of different numbers of rows may differ in a last bit, so a word's byte
    may differ by one between two batches (how often: `benchmarks/results/compressor-gpu.md`).
    """

    def __init__(
        self,
        encoder: PackedEncoder,
        *,
        keep_label: int,
        device: str,
        fingerprint: str,
        graph_tokens: int = 0,
        longest: int = 0,
    ) -> None:
        self.fingerprint = fingerprint
        self.device = device
        self._encoder = encoder
        self._keep = keep_label
        self._passes: list[PaddedPass] = []
        if graph_tokens:
            with self._on_device():
                self._passes = capture_passes(
                    encoder, keep_label, device, most_tokens=graph_tokens, longest=longest
                )

    @property
    def graph_sizes(self) -> tuple[int, ...]:
        """Tokens of the passes that are replayed."""
        return tuple(one.size.tokens for one in self._passes)

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Queues the batch on the device."""
        try:
            with self._on_device():
                return self._launch(plan_batch(windows), task)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise OutOfDeviceMemory from None

    def close(self) -> None:
        """Frees the weights."""
        self._passes.clear()
        del self._encoder
        if self.device != "cpu":
            torch.cuda.empty_cache()

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Kernels, events and graphs go to torch's current device, which is each thread's own."""
        with torch.inference_mode():
            if self.device == "cpu":
                yield
            else:
                with torch.cuda.device(self.device):
                    yield

    def _launch(self, plan: BatchPlan, task: Task) -> Running:
        fitting = (one for one in self._passes if one.size.holds(plan))
        if task == "score" and (padded := next(fitting, None)) is not None:
            staged = self._staged(sum(padded.size.parts))
            padded.size.write(plan, staged.numpy())
            head = padded.size.failed
            return PackedBatch(self._fetch(padded.run(staged)[: head + plan.words]), plan.windows, head)
        parts: list[NDArray[np.integer]] = [plan.ids, plan.positions, plan.owners, plan.bounds]
        ids, positions, owners, bounds, pairs, slots = self._send([*parts, plan.pairs, plan.slots])
        states = self._encoder.states(Packed(ids, positions, bounds, plan.longest))
        if task == "embed":
            means = torch.segment_reduce(states, "mean", offsets=bounds.long(), axis=0)
            return PackedBatch(self._fetch(torch.nn.functional.normalize(means, dim=1)), 0, 0)
        probabilities = self._encoder.keep_probabilities(states, self._keep)
        found = pool_on_device(probabilities, (pairs, slots, plan.words), (owners, plan.windows))
        return PackedBatch(self._fetch(found), plan.windows, plan.windows)

    def _send(self, parts: Sequence[NDArray[np.integer]]) -> Sequence[torch.Tensor]:
        """All arrays to the device in one copy, int32."""
        sizes = [part.size for part in parts]
        host = self._staged(sum(sizes))
        np.concatenate(parts, out=host.numpy(), casting="same_kind")
        return torch.split(host.to(self.device, non_blocking=True), sizes)

    def _staged(self, size: int) -> torch.Tensor:
        """Host memory that the device reads by itself; torch takes it back when the copy is done."""
        return torch.empty(size, dtype=torch.int32, pin_memory=self.device != "cpu")

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
    head: int  # bytes before the words'

    def scores(self) -> Scored:
        """Waits for the copy."""
        found: NDArray[np.uint8] = self.fetched.wait().numpy()
        return Scored(found[self.head :], found[: self.windows].astype(np.bool_))

    def embeddings(self) -> NDArray[np.float32]:
        """One unit vector a window."""
        return np.asarray(self.fetched.wait().numpy(), np.float32)
