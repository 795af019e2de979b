"""BERT-shaped encoders on a CPU through OpenVINO: no torch. Each window runs alone, one a thread.

Windows are never joined, and padded only by their own length, so a text's scores do not depend on what else
is in the batch. The graph is built here, from the weights; word embeddings stay outside it, in numpy, where
4-bit rows are unpacked as they are needed. On two cores OpenVINO was faster than ONNX Runtime and torch at
every precision (`benchmarks/results/compressor-cpu.md`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressor.engine.scorer import Running, Scored, Task, Window, pool_words
from compressor.errors import ModelLoadFailed
from compressor.model.openvino_runtime import import_openvino
from compressor.model.packing import LINEAR_BLOCK, pack_linear
from compressor.model.weights import EncoderWeights, Linear, Norm

# Windows are computed at the next multiple of so many tokens, a tile of the matrix units. OpenVINO keeps what
# it made for every length that it has seen, 1.3 MiB each: 200 texts took 240 MiB, and 60 with this.
ROUND = 16
_UNSEEN = -1e9  # in log-odds of attention
_Finish = Callable[[Any, int], NDArray[np.float32]]  # a request and its tokens
CpuPrecision = Literal["fp32", "bf16", "int8"]


def choose_precision(wish: str) -> CpuPrecision:
    """The fastest precision that keeps decisions within 0.5 % of fp32's on this CPU: bf16 where it has it."""
    if wish == "auto":
        return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"
    if wish not in ("fp32", "bf16", "int8"):
        raise ModelLoadFailed(f"precision {wish!r} is not for CPUs; known are auto, fp32, bf16 and int8")
    return wish  # type: ignore[return-value]


class OpenVinoScorer:
    """A `Scorer`. `threads` windows run side by side."""

    device = "cpu"

    def __init__(
        self,
        weights: EncoderWeights,
        *,
        keep_label: int,
        precision: CpuPrecision,
        fingerprint: str,
        threads: int | None = None,
    ) -> None:
        self.fingerprint = f"{fingerprint}-{precision}"
        self._weights = weights
        self._keep = keep_label
        streams = threads or len(os.sched_getaffinity(0))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": LINEAR_BLOCK if precision == "int8" else 0,
            "INFERENCE_NUM_THREADS": streams,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # several processes share the machine
        }
        graph = build_graph(weights, compressed=precision == "int8")
        self._compiled = _core().compile_model(graph, "CPU", settings)
        self._own = threading.local()  # each thread's infer request
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="terse-openvino")

    def launch(self, windows: Sequence[Window], task: Task) -> Running:
        """Hands every window to the threads."""
        finish = _mean_state if task == "embed" else self._keep_probability
        return OpenVinoBatch(windows, [self._threads.submit(self._run, w.ids, finish) for w in windows])

    def log_odds(self, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        """Log-odds of keeping each token, one array [tokens] a window, for encoders with two labels."""

        def difference(request: Any, size: int) -> NDArray[np.float32]:
            logits = request.get_output_tensor(0).data[0, :size]
            return np.asarray(logits[:, self._keep] - logits[:, 1 - self._keep], np.float32)

        return [self._run(window.ids, difference) for window in windows]

    def close(self) -> None:
        """Waits for what runs."""
        self._threads.shutdown()
        del self._compiled

    def _run(self, ids: NDArray[np.int32], finish: _Finish) -> NDArray[np.float32]:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        request = self._own.request
        size = ids.size
        rounded = -(-size // ROUND) * ROUND
        states = np.zeros((1, rounded, self._weights.words.shape[1]), np.float32)
        states[0, :size] = self._weights.embed(ids)
        unseen = np.zeros((1, 1, 1, rounded), np.float32)
        unseen[..., size:] = _UNSEEN
        request.infer([states, unseen])
        return finish(request, size)

    def _keep_probability(self, request: Any, size: int) -> NDArray[np.float32]:
        """P(keep) of each token, [tokens]."""
        logits = request.get_output_tensor(0).data[0, :size]
        if logits.shape[1] == 1:
            return np.asarray(1 / (1 + np.exp(-logits[:, 0])), np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers[:, self._keep] / powers.sum(axis=1), np.float32)


@dataclass(frozen=True, slots=True)
class OpenVinoBatch:
    """Windows on their threads."""

    windows: Sequence[Window]
    results: Sequence[Future[NDArray[np.float32]]]

    def scores(self) -> Scored:
        """Pooled over words."""
        return pool_words(np.concatenate([result.result() for result in self.results]), self.windows)

    def embeddings(self) -> NDArray[np.float32]:
        """One unit vector a window."""
        return np.stack([result.result() for result in self.results])


def _mean_state(request: Any, size: int) -> NDArray[np.float32]:
    """The unit vector of the mean over tokens, special ones included, as E5 was trained: [hidden]."""
    mean = request.get_output_tensor(1).data[0, :size].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def build_graph(weights: EncoderWeights, *, compressed: bool) -> Any:
    """From embeddings [1, tokens, hidden] to logits [1, tokens, labels] and last states [1, tokens, hidden].

    `compressed` keeps linear weights in int8, so that OpenVINO multiplies in int8 where the CPU can.
    """
    openvino = import_openvino()
    op = openvino.opset13
    hidden = weights.positions.shape[1]
    head_size = hidden // weights.heads

    def constant(values: NDArray[Any]) -> Any:
        return op.constant(np.ascontiguousarray(values))

    def integers(*values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def linear(x: Any, part: Linear) -> Any:
        if compressed and part.weight.shape[1] % LINEAR_BLOCK == 0:
            packed, scales = pack_linear(part.weight)
            blocks = op.convert(constant(packed.reshape(packed.shape[0], -1, LINEAR_BLOCK)), "f32")
            scaled = op.multiply(blocks, constant(scales.astype(np.float32)[:, :, None]))
            weight = op.reshape(scaled, integers(*packed.shape), False)
        else:
            weight = constant(part.weight)
        return op.add(op.matmul(x, weight, False, True), constant(part.bias[None, None]))

    def norm(x: Any, part: Norm) -> Any:
        even = op.mvn(x, integers(-1), True, weights.epsilon, "inside_sqrt")
        return op.add(op.multiply(even, constant(part.scale[None, None])), constant(part.shift[None, None]))

    def heads(x: Any) -> Any:
        return op.transpose(
            op.reshape(x, integers(0, 0, weights.heads, head_size), True), integers(0, 2, 1, 3)
        )

    def rows(part: Linear, number: int) -> Linear:
        span = slice(number * hidden, (number + 1) * hidden)
        return Linear(part.weight[span], part.bias[span])

    x = source = op.parameter([1, -1, hidden], np.float32, name="embeddings")
    unseen = op.parameter([1, 1, 1, -1], np.float32, name="unseen")  # added to what every token sees
    for layer in weights.layers:
        query, key, value = (heads(linear(x, rows(layer.qkv, number))) for number in range(3))
        seen = op.transpose(op.scaled_dot_product_attention(query, key, value, unseen), integers(0, 2, 1, 3))
        seen = op.reshape(seen, integers(0, 0, hidden), True)
        x = norm(op.add(linear(seen, layer.out), x), layer.norm1)
        x = norm(op.add(linear(op.gelu(linear(x, layer.up), "erf"), layer.down), x), layer.norm2)
    logits = op.add(
        op.matmul(x, constant(weights.classifier.weight), False, True),
        constant(weights.classifier.bias[None, None]),
    )
    return openvino.Model([op.result(logits), op.result(x)], [source, unseen], "encoder")


@cache
def _core() -> Any:
    """One for the whole process, and never let go.

    Its CPU plugin gives the thread that loads it a stack for signals, and unmaps that stack when it is let
    go, on whatever thread: the next signal, SIGTERM or SIGHUP, would then be a segmentation fault.
    """
    return import_openvino().Core()
