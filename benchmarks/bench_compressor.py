"""Speed and memory of the compressor beside llmlingua 0.2.2 as shipped, text to text, in one run.

    python benchmarks/bench_compressor.py TRANSCRIPTS.txt --tokenizer FOLDER --tiktoken FOLDER
        [--model FOLDER] [--shapes embedded,xlmr-large,mbert-base] [--words 60000] [--json OUT.json]

On a GPU it measures the shapes with random weights, since speed does not depend on their values; on a CPU the
On a GPU it measures the shapes with random weights, since speed does not depend on their values; on a CPU
the model. TRANSCRIPTS: meeting transcripts, UTF-8. --tokenizer: a folder with XLM-R's tokenizer.json, for the
counts offline. --model: a Hugging Face folder with the embedded encoder's weights. Needs llmlingua==0.2.2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHAPES: dict[str, dict[str, Any]] = {
    "embedded": dict(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536),
    "xlmr-large": dict(
        num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096
    ),
    "mbert-base": dict(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
}
# llmlingua reads the family off the path.
REFERENCE_NAME = {
    "embedded": "bert-base-multilingual-cased",
    "xlmr-large": "xlm-roberta-large",
    "mbert-base": "bert-base-multilingual-cased",
}
PROMPT_TOKENS = 10_000
CALLERS = 64
ROWS: list[dict[str, Any]] = []


def note(model: str, what: str, value: float, unit: str, **more: Any) -> None:
    """Records and prints one figure."""
    ROWS.append({"model": model, "what": what, "value": value, "unit": unit, **more})
    print(f"{model:12} {what:58} {value:14,.2f} {unit} {more or ''}", flush=True)


def seconds(work: Callable[[], Any], runs: int = 5, warm_up: int = 1) -> list[float]:
    """Sorted wall times of single calls, device work included."""
    import torch

    times = []
    for number in range(warm_up + runs):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            times.append(time.perf_counter() - start)
    return sorted(times)


def make_model(folder: Path, shape: str, tokenizer: Path) -> Path:
    """A random token classifier of a published shape, spread so that scores are not all one half."""
    import torch
    from transformers import BertConfig, BertForTokenClassification, XLMRobertaConfig
    from transformers import XLMRobertaForTokenClassification as XLMR

    folder.mkdir(parents=True)
    vocabulary = 250_037  # XLM-R's and the tokenizer's
    common = {**SHAPES[shape], "vocab_size": vocabulary, "num_labels": 2}
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        if shape == "xlmr-large":
            network: Any = XLMR(
                XLMRobertaConfig(**common, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1)
            )
        else:
            network = BertForTokenClassification(BertConfig(**common, pad_token_id=1))
        network.classifier.weight.data.normal_(0, 0.3)
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


@contextlib.contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Any]:
    """A Compressor on a folder."""
    from compressor import Compressor
    from compressor.config import CompressorConfig
    from compressor.startup import open_engine

    compressor = Compressor(open_engine(CompressorConfig(model=str(folder), **options)))
    try:
        yield compressor
    finally:
        compressor.close()


def score(compressor: Any, text: str) -> np.ndarray:
    """The words' bytes."""
    values: np.ndarray = asyncio.run(compressor.engine.score(text)).values
    return values


def bench_reference(name: str, folder: Path, text: str, tokens: int, device: str) -> None:
    """llmlingua as shipped."""
    from llmlingua import PromptCompressor

    reference = PromptCompressor(str(folder), device_map=device, use_llmlingua2=True)
    run = lambda: reference.compress_prompt_llmlingua2([text], rate=0.33, force_tokens=["\n"])  # noqa: E731
    times = seconds(run, runs=2 if device == "cuda" else 1, warm_up=1 if device == "cuda" else 0)
    note(name, "llmlingua 0.2.2, text to text", tokens / times[0], "tokens/s")


def bench_encoder_alone(name: str, folder: Path) -> None:
    """What issue and reference call the encoder alone: eager bf16, 128 x 512, no text."""
    import torch
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    model = model.to("cuda").eval()
    ids = torch.randint(2000, 20000, (128, 512), device="cuda")
    with torch.inference_mode():
        times = seconds(lambda: model(input_ids=ids).logits, runs=5, warm_up=2)
    note(
        name,
        "encoder alone, transformers eager bf16 128 x 512",
        ids.numel() / statistics.median(times),
        "tokens/s",
    )


def kept(values: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Which words a threshold at this share keeps, ties by place."""
    order = np.argsort(-values.astype(int), kind="stable")
    chosen = np.zeros(values.size, bool)
    chosen[order[: int(values.size * share)]] = True
    return chosen


def note_agreement(name: str, precision: str, exact: np.ndarray, found: np.ndarray) -> None:
    """Decisions at keep 0.5 that differ from fp32 of the same weights."""
    changed = 100 * float((kept(found) != kept(exact)).mean())
    note(name, f"{precision}: decisions at keep 0.5 unlike fp32", changed, "%")


def bench_throughput(name: str, compressor: Any, text: str, tokens: int) -> None:
    """The whole text at once, scores alone and text to text."""
    times = seconds(lambda: score(compressor, text), runs=3)
    note(name, "scores, one text", tokens / statistics.median(times), "tokens/s")
    times = seconds(lambda: compressor.compress(text, keep=0.33), runs=3)
    note(name, "text to text, one text", tokens / statistics.median(times), "tokens/s")
    parts = cut(text, 16)
    times = seconds(lambda: compressor.compress_batch(parts, keep=0.33), runs=3)
    note(name, "text to text, 16 texts at once", tokens / statistics.median(times), "tokens/s")


def bench_prompt(name: str, compressor: Any, prompt: str, precision: str) -> None:
    """One 10k-token prompt alone."""
    times = seconds(lambda: score(compressor, prompt), runs=21, warm_up=3)
    note(
        name, f"{precision}: one 10k prompt, tokenising to scores, p50", 1000 * statistics.median(times), "ms"
    )
    times = seconds(lambda: compressor.compress(prompt, keep=0.33), runs=11, warm_up=2)
    note(name, f"{precision}: one 10k prompt, text to text, p50", 1000 * statistics.median(times), "ms")


def bench_callers(name: str, compressor: Any, prompt: str, tokens: int) -> None:
    """64 prompts from 64 callers against the same tokens as one text."""
    prompts = [f"{number} {prompt}" for number in range(CALLERS)]
    single = statistics.median(seconds(lambda: score(compressor, "\n".join(prompts)), runs=3))
    waits: list[float] = []

    async def call(text: str) -> None:
        start = time.perf_counter()
        await compressor.engine.score(text)
        waits.append(time.perf_counter() - start)

    async def together() -> None:
        await asyncio.gather(*(call(text) for text in prompts))

    took = statistics.median(seconds(lambda: asyncio.run(together()), runs=3))
    note(name, "64 prompts as one text", CALLERS * tokens / single, "tokens/s")
    note(
        name,
        "64 prompts from 64 callers",
        CALLERS * tokens / took,
        "tokens/s",
        p99_ms=round(1000 * float(np.quantile(waits, 0.99)), 1),
    )
    alone = score(compressor, prompts[0])

    async def crowd() -> list[np.ndarray]:
        return [
            found.values for found in await asyncio.gather(*(compressor.engine.score(p) for p in prompts))
        ]

    unlike = float((asyncio.run(crowd())[0] != alone).mean())
    note(name, "bytes of a prompt in a crowd unlike alone", 100 * unlike, "%")


def client(url: str, texts: list[str], ready: Any, start: Any) -> None:
    """One gateway process's work: shortens its texts through the compressor process."""
    from compressor import Compressor
    from gateway.compression.remote_engine import RemoteEngine

    with Compressor(RemoteEngine(url)) as compressor:
        compressor.compress_batch(texts[:1], keep=0.33)
        ready.release()
        start.wait()
        compressor.compress_batch(texts, keep=0.33)


async def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Returns once the compressor process answers. Its socket is there before its model is."""
    from compressor.errors import EngineStopped
    from gateway.compression.remote_engine import RemoteEngine

    engine = RemoteEngine(url)
    for _ in range(1200):
        try:
            await engine.connect()
            break
        except EngineStopped:
            if server.poll() is not None:
                raise
            await asyncio.sleep(0.1)
    await engine.close()


def bench_processes(name: str, folder: Path, prompt: str, processes: int, precision: str) -> None:
    """Text to text as deployed: several gateway processes choose words, one compressor owns the GPU."""
    socket = Path(tempfile.mkdtemp()) / "compressor.sock"
    command = [sys.executable, "-m", "gateway.commands.compressor", "--socket", str(socket)]
    server = subprocess.Popen([*command, "--model", str(folder), "--precision", precision])
    spawn = multiprocessing.get_context("spawn")
    ready, start = spawn.Semaphore(0), spawn.Event()
    each = 8
    try:
        asyncio.run(wait_until_ready(f"unix://{socket}", server))
        texts = [[f"{one} {two} {prompt}" for two in range(each)] for one in range(processes)]
        url = f"unix://{socket}"
        clients = [
            spawn.Process(target=client, args=(url, texts[at], ready, start)) for at in range(processes)
        ]
        for process in clients:
            process.start()
        if not all(ready.acquire(timeout=90) for _ in clients):
            raise RuntimeError("a client did not start")
        begun = time.perf_counter()
        start.set()
        for process in clients:
            process.join(120)
        took = time.perf_counter() - begun
        total = processes * each * PROMPT_TOKENS
        note(name, f"{precision}: text to text, {processes} gateways, one GPU", total / took, "tokens/s")
    finally:
        server.terminate()
        server.wait(30)


def bench_growth(name: str, compressor: Any, text: str, tokens: int) -> None:
    """Time at 10k, 100k and 1M tokens."""
    for goal in (10_000, 100_000, 1_000_000):
        grown = (text + "\n") * (1 + goal // tokens)
        grown = grown[: int(len(text) * goal / tokens)]
        took = seconds(
            lambda grown=grown: score(compressor, grown), runs=1, warm_up=0 if goal > 500_000 else 1
        )[0]
        note(
            name, f"scores of {goal:,} tokens", took, "s", microseconds_per_token=round(1e6 * took / goal, 3)
        )


def cut(text: str, parts: int) -> list[str]:
    """Nearly equal pieces, cut at spaces."""
    words = text.split(" ")
    size = -(-len(words) // parts)
    return [" ".join(words[at : at + size]) for at in range(0, len(words), size)]


def count(folder: Path, text: str) -> int:
    """Encoder tokens."""
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids)


def bench_gpu(name: str, folder: Path, text: str) -> None:
    """Everything that is promised of one encoder on a GPU."""
    import torch

    tokens = count(folder, text)
    prompt = text[: int(len(text) * PROMPT_TOKENS / tokens)]
    with opened(folder, device="cuda", precision="fp32") as compressor:
        exact = score(compressor, prompt)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with opened(folder, device="cuda") as compressor:
        bench_throughput(name, compressor, text, tokens)
        bench_prompt(name, compressor, prompt, "bf16")
        bench_callers(name, compressor, prompt, PROMPT_TOKENS)
        bench_growth(name, compressor, text, tokens)
        note(name, "peak GPU memory, bf16", torch.cuda.max_memory_allocated() / 2**30, "GiB")
        note_agreement(name, "bf16", exact, score(compressor, prompt))
    with opened(folder, device="cuda", precision="fp8") as compressor:
        times = seconds(lambda: score(compressor, text), runs=3)
        note(name, "fp8: scores, one text", tokens / statistics.median(times), "tokens/s")
        bench_prompt(name, compressor, prompt, "fp8")
        note_agreement(name, "fp8", exact, score(compressor, prompt))
    torch.cuda.empty_cache()
    for precision in ("bf16", "fp8"):
        bench_processes(name, folder, prompt, max(2, (os.cpu_count() or 2) - 4), precision)
    bench_encoder_alone(name, folder)
    torch.cuda.empty_cache()
    bench_reference(name, folder, text, tokens, "cuda")
    torch.cuda.empty_cache()


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


def main() -> None:
    """Runs the section that fits the machine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--tiktoken", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shapes", default="embedded,xlmr-large,mbert-base")
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(
        TIKTOKEN_CACHE_DIR=str(options.tiktoken.resolve()), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true"
    )
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"{cpu_name()}, {options.threads} threads"
    print(f"{device}; torch {torch.__version__}; Python {platform.python_version()}; {os.cpu_count()} cores")
    text = " ".join(options.text.read_text(encoding="utf-8").split(" ")[: options.words])
    try:
        if on_gpu:
            for shape in filter(None, options.shapes.split(",")):
                folder = Path(tempfile.mkdtemp()) / REFERENCE_NAME[shape]
                bench_gpu(shape, make_model(folder, shape, options.tokenizer), text)
                shutil.rmtree(folder)
        else:
            bench_cpu("embedded", options.model, text, options.threads)
    finally:
        if options.json:
            options.json.write_text(
                json.dumps({"device": device, "torch": torch.__version__, "rows": ROWS}, indent=1)
            )


if __name__ == "__main__":
    main()
