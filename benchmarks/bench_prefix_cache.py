"""A real LLM server with a prefix cache: how much prompt it evaluates anew, off, with Terse, and compressed
per turn.

    python -m llama_cpp.server --model MODEL.gguf --n_ctx 8192 --cache true --verbose true 2> server.log
    python -m benchmarks.bench_prefix_cache --server http://127.0.0.1:8000 --log server.log --data FOLDER

With `--log` the number of evaluated tokens is read from llama.cpp's own "prompt eval time" lines. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bench_savings import POLICY, open_scorer
from benchmarks.savings.senders import MemoEngine, Off, PerTurn, Sender, Terse, naive_policy
from benchmarks.savings.traffic import RAG_SYSTEM, rows_of
from compressor.text.tokens import counter_for
from gateway.shapes import Price, Usage

TURNS = 4
# The documents of one question, cut so that four of them fit a small context on a slow machine.
DOCUMENT_CHARACTERS = 2400
_EVALUATED = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*(\d+) tokens")


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: tokens sent, tokens evaluated (llama.cpp's own count), and seconds until the answer."""

    sent: int
    evaluated: int
    seconds: float
    own_seconds: float


async def converse(
    questions: list[dict[str, Any]], sender: Sender, client: httpx.AsyncClient, log: Path | None, name: str
) -> list[Answered]:
    """The conversation turn by turn; each way of sending begins with words of its own, so that none finds the
    cache of another.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": f"{RAG_SYSTEM} ({name})"}]
    answered = []
    for number, row in enumerate(questions):
        asked = f"{row['context'][:DOCUMENT_CHARACTERS]}\n\nQuestion: {row['question']}?"
        messages.append({"role": "user", "content": asked})
        begun = time.perf_counter()
        sent = await sender.send({"model": "local", "messages": list(messages)}, "chat", 1.78e9 + 60 * number)
        own = time.perf_counter() - begun
        seen = len(_text_of(log))
        begun = time.perf_counter()
        reply = await client.post("/v1/chat/completions", json={**sent, "max_tokens": 1, "temperature": 0})
        seconds = time.perf_counter() - begun
        usage = reply.raise_for_status().json()["usage"]
        await sender.billed(Usage(usage["prompt_tokens"], output_tokens=1))
        found = _EVALUATED.findall(_text_of(log)[seen:])
        evaluated = sum(int(tokens) for _, tokens in found)
        answered.append(Answered(usage["prompt_tokens"], evaluated, seconds, own))
        messages.append({"role": "assistant", "content": f"It is {row['answers'][0]}."})
    return answered


def _text_of(log: Path | None) -> str:
    return log.read_text(errors="replace") if log else ""


async def run(arguments: argparse.Namespace) -> None:
    engine = MemoEngine(open_scorer(arguments.engine))
    policy = replace(POLICY, trigger_tokens=256)
    counter = counter_for("o200k_base")
    price = Price(known=False)  # a server of one's own: evaluated tokens are what it costs
    senders: dict[str, Sender] = {
        "off": Off(),
        "Terse": Terse(engine, price, policy),
        "naive, anew each turn": PerTurn(engine, counter, replace(naive_policy(policy), trigger_tokens=256)),
    }
    questions = rows_of(arguments.data, "qa_dev_nq10docs")[40 : 40 + TURNS]
    print(f"{platform.machine()}, {arguments.server}, engine {arguments.engine}, {TURNS} turns\n")
    print(
        "| sent as | turn | prompt tokens | evaluated anew | seconds to the first token | our own seconds |"
    )
    print("|---|---|---|---|---|---|")
    async with httpx.AsyncClient(base_url=arguments.server, timeout=300) as client:
        for name, sender in senders.items():
            answered = await converse(questions, sender, client, arguments.log, name)
            for turn, each in enumerate(answered, 1):
                figures = f"{each.sent} | {each.evaluated} | {each.seconds:.1f} | {each.own_seconds:.2f}"
                print(f"| {name} | {turn} | {figures} |", flush=True)
            total = f"{sum(a.sent for a in answered)} | {sum(a.evaluated for a in answered)}"
            seconds, own = sum(a.seconds for a in answered), sum(a.own_seconds for a in answered)
            print(f"| **{name}** | all | {total} | {seconds:.1f} | {own:.2f} |", flush=True)
    await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", required=True)
    parser.add_argument(
        "--log", type=Path, help="the server's log, for llama.cpp's count of evaluated tokens"
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--engine", default="default")
    asyncio.run(run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
