"""What is promised of the embedded encoder on CPU cores."""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.encoders.measuring import PROMPT_TOKENS, count, note, note_agreement, opened, score


def on_cores(work: Callable[[], Any], threads: int) -> tuple[float, float]:
    """Best wall seconds of two calls, and the CPU seconds of that call spread over the threads.

    On a busy machine the second says what the first would be on a free one.
    """
    found = []
    for _ in range(2):
        start, used = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - start, (time.process_time() - used) / threads))
    return min(found)


def bench_cpu(name: str, folder: Path, text: str, threads: int) -> None:
    """The embedded model on this machine's cores, beside llmlingua given the same weights."""
    from llmlingua import PromptCompressor

    tokens = count(folder, text)
    prompt = text[: int(len(text) * PROMPT_TOKENS / tokens)]

    def measure(what: str, work: Callable[[], Any]) -> None:
        work()
        wall, used = on_cores(work, threads)
        note(name, what, PROMPT_TOKENS / wall, "tokens/s", by_cpu_time=round(PROMPT_TOKENS / used))

    exact = None
    for window in (512, 256, 128):
        for precision in ("fp32", "bf16", "int8"):
            options = {"precision": precision, "window_tokens": window, "threads": threads}
            with opened(folder, device="cpu", **options) as compressor:
                measure(
                    f"OpenVINO {precision}, windows of {window}, scores",
                    lambda c=compressor: score(c, prompt),
                )
                found = score(compressor, prompt)
            exact = found if precision == "fp32" else exact
            if exact is not None and precision != "fp32":
                note_agreement(name, f"{precision}, windows of {window}", exact, found)
    with opened(folder, device="cpu", threads=threads) as compressor:
        measure("text to text, as configured", lambda: compressor.compress(prompt, keep=0.33))
    linked = Path(tempfile.mkdtemp()) / "bert-base-multilingual-cased"
    linked.symlink_to(folder.resolve())
    reference = PromptCompressor(str(linked), device_map="cpu", use_llmlingua2=True)
    options = {"rate": 0.33, "force_tokens": ["\n"]}
    measure(
        "llmlingua 0.2.2, text to text", lambda: reference.compress_prompt_llmlingua2([prompt], **options)
    )


def cpu_name() -> str:
    """The processor, and whether it has bf16 and int8 instructions."""
    with contextlib.suppress(OSError):
        facts = Path("/proc/cpuinfo").read_text()
        name = next(
            (line.partition(":")[2].strip() for line in facts.splitlines() if "model name" in line), ""
        )
        return (
            f"{name} {[flag for flag in ('avx2', 'avx512_vnni', 'avx512_bf16', 'amx_bf16') if flag in facts]}"
        )
    return platform.processor()
