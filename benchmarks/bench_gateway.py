"""Requests a second and added latency beside litellm's proxy, in one run, in front of the same mock.

    python -m benchmarks.bench_gateway --litellm PATH/bin/litellm [--seconds 4] [--rounds 1] [--out REPORT.md]

Some five minutes on a quiet machine, most of them for scoring 100,000 tokens on its CPU, twice.

Needs nginx and wrk. One worker each, both with a key check; the mock is an nginx that answers at once. Rounds
alternate between the systems, so that both meet the same machine; the tables show the median of the rounds.
CPU a request is the worker process's own user and system time: it moves less with other work than wall time.
Long prompts: both get the same body again and again; Terse's scores are cached, as in a conversation's turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.mock import MOCK, running_mock
from benchmarks.processes import resident_mib, running, worker_of
from benchmarks.wrk import Figures, load, median, script_of

KEY = "sk-bench-0f8a3c5e7d9b1a2c4e6f8091a2b3c4d5"
PATH = "/v1/chat/completions"
TERSE, LITELLM, BARE = 4200, 4100, 4300
LITELLM_YAML = """model_list:
  - model_name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:9100/v1", api_key: sk-x}
general_settings: {master_key: KEY}
litellm_settings: {request_timeout: 60}
"""
# The deadline lets the first request of a long prompt wait for its scores; every later one finds them.
TERSE_YAML = """upstreams: {mock: {base_url: "http://127.0.0.1:9100/v1", api_key: sk-x}}
models: {gpt-4o-mini: {upstream: mock}}
compressor: {deadline_ms: 600000}
policies: {default: {mode: "MODE"}}
"""
WORDS = re.findall(
    r"\S+",
    """the committee agreed that our delivery of new parts would be late because nobody had told the supplier
    about another change in plans although several people mentioned it during last week's meeting""",
)


@dataclass(frozen=True)
class Case:
    """One load: a body of so many tokens, and so many connections."""

    name: str
    tokens: int
    connections: int


SHORT = [Case("short", 0, connections) for connections in (1, 8, 32)]
LONG = [Case(f"{tokens // 1000}k tokens", tokens, c) for tokens in (10_000, 100_000) for c in (1, 8)]


def body_of(tokens: int) -> str:
    """A chat request; with tokens, a document of about so many above a question."""
    if not tokens:
        text = "Hello, who are you and what can you do for me today?"
        return json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
    draw = random.Random(tokens)
    sentences, count = [], 0
    while count < tokens:
        words = draw.choices(WORDS, k=draw.randint(6, 18))
        sentences.append(" ".join(words).capitalize() + f" {draw.randint(1, 9999)}.")
        count += len(words) + 4
    lines = [" ".join(sentences[n : n + 5]) for n in range(0, len(sentences), 5)]
    content = "\n\n".join(lines) + "\n\nWhat was agreed?"
    return json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}]})


def url_of(port: int) -> str:
    """Where a server takes chat requests."""
    return f"http://127.0.0.1:{port}{PATH}"


def ask(port: int, body: str) -> dict[str, str]:
    """One request; its reply's headers."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(url_of(port), body.encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as reply:
        reply.read()
        return {name.lower(): value for name, value in reply.headers.items()}


@dataclass(frozen=True)
class System:
    """One server under test."""

    name: str
    command: Sequence[str]
    port: int
    cases: Sequence[Case]
    environ: dict[str, str]


def systems(folder: Path, litellm: str) -> list[System]:
    """Everything that is measured, with its configuration written down."""
    (folder / "litellm.yaml").write_text(LITELLM_YAML.replace("KEY", KEY))
    own = {"TERSE_MASTER_KEY": KEY, "TERSE_DATA_DIR": str(folder / "data"), "PYTHONPATH": os.getcwd()}
    listed = []
    if litellm:
        command = [litellm, "--config", "litellm.yaml", "--port", str(LITELLM), "--num_workers", "1"]
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        listed.append(System("litellm", command, LITELLM, [*SHORT, *LONG], quiet))
    for mode in ("off", "audit", "on"):
        (folder / f"{mode}.yaml").write_text(TERSE_YAML.replace("MODE", mode))
        command = [sys.executable, "-m", "gateway", "serve", "--config", f"{mode}.yaml", "--port", str(TERSE)]
        cases = LONG if mode != "on" else [*SHORT, *LONG]
        listed.append(System(f"terse {mode}", command, TERSE, cases, own))
    granian = [sys.executable, "-m", "granian", "--interface", "asginl", "--loop", "uvloop", "--no-ws"]
    for client in ("aiohttp", "httpx"):
        command = [*granian, "--port", str(BARE), f"benchmarks.forwarders:{client}_app"]
        listed.append(System(f"bare {client}", command, BARE, SHORT, own))
    return listed


Results = dict[tuple[str, Case], list[Figures]]


def measure(options: argparse.Namespace, folder: Path) -> tuple[Results, dict[str, float], dict[str, str]]:
    """All rounds of all systems, their memory, and what Terse said of the long prompts."""
    results: Results = {}
    memory: dict[str, float] = {}
    said: dict[str, str] = {}
    scripts = {tokens: script_of(body_of(tokens), KEY, folder) for tokens in (0, 10_000, 100_000)}
    with running_mock(folder) as mock:
        for case in SHORT:
            figures = load(url_of(MOCK), worker_of(mock), case.connections, scripts[0], options.seconds)
            results.setdefault(("mock", case), []).append(figures)
        for number in range(options.rounds):
            for system in systems(folder, options.litellm):
                with running(system.command, system.port, folder, **system.environ) as pid:
                    worker = worker_of(pid)
                    for case in system.cases:
                        headers = ask(system.port, body_of(case.tokens))  # warm: scores, forms, connections
                        headers = ask(system.port, body_of(case.tokens))
                        if case.tokens and system.name == "terse on":
                            said[case.name] = " -> ".join(
                                headers[f"x-terse-tokens-{x}"] for x in ("before", "after")
                            )
                        script = scripts[case.tokens]
                        figures = load(url_of(system.port), worker, case.connections, script, options.seconds)
                        results.setdefault((system.name, case), []).append(figures)
                        print(number, system.name, case, figures, flush=True)
                    memory[system.name] = resident_mib(worker)
    return results, memory, said


def report(
    results: Results, memory: dict[str, float], said: dict[str, str], options: argparse.Namespace
) -> str:
    """The whole report as Markdown."""
    middle = {key: median(rounds) for key, rounds in results.items()}
    names = ["mock", "bare aiohttp", "bare httpx", "litellm", "terse off", "terse audit", "terse on"]
    command = "python -m benchmarks.bench_gateway" + (" --litellm .../litellm" if options.litellm else "")
    command += f" --seconds {options.seconds} --rounds {options.rounds}"
    lines = [
        "# The gateway beside litellm's proxy",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}",
        "",
        (__doc__ or "").split("\n\n")[3].strip().replace("\n", " "),
        "",
        "CPU is milliseconds of the worker's own time a request. Short prompts are below Terse's trigger.",
    ]
    for case in [*SHORT, *LONG]:
        tokens = said.get(case.name)
        lines += ["", f"## {case.name}, c={case.connections}" + (f" ({tokens} tokens)" if tokens else ""), ""]
        lines += [
            "| | req/s | p50 ms | p99 ms | CPU ms | errors | req/s of litellm |",
            "|---|---|---|---|---|---|---|",
        ]
        base = middle.get(("litellm", case))
        for name in names:
            figures = middle.get((name, case))
            if figures is not None:
                times = f"{figures.rps / base.rps:.1f}x" if base and base.rps else ""
                shown = [f"{figures.rps:,.0f}", f"{figures.p50_ms:.2f}", f"{figures.p99_ms:.1f}"]
                shown += [f"{figures.cpu_ms:.2f}", str(figures.bad), times]
                lines.append(f"| {name} | " + " | ".join(shown) + " |")
    lines += ["", "## Memory of the worker after its cases, MiB", "", "| | MiB |", "|---|---|"]
    lines += [f"| {name} | {mib:.0f} |" for name, mib in memory.items()]
    lines += ["", "`terse on`, `off` and `audit` hold the embedded encoder in the same process.", ""]
    return "\n".join([*lines, *verdicts(middle)])


def verdicts(middle: dict[tuple[str, Case], Figures]) -> list[str]:
    """The targets, and whether they were met."""
    lines = ["## Targets", "", "| target | measured | met |", "|---|---|---|"]
    one, many = SHORT[0], SHORT[-1]
    ours, theirs = middle.get(("terse on", many)), middle.get(("litellm", many))
    if not ours or not theirs:
        return []
    times = ours.rps / theirs.rps
    lines.append(f"| 20 times litellm's requests a second, c=32 | {times:.1f} | {met(times, 20)} |")
    mock = middle["mock", one].p50_ms
    added = (middle["terse on", one].p50_ms - mock) / (middle["litellm", one].p50_ms - mock)
    lines.append(f"| a tenth of its added p50, c=1 | {added:.3f} | {'yes' if added <= 0.1 else 'no'} |")
    spent = middle["litellm", many].cpu_ms / middle["terse on", many].cpu_ms
    lines.append(f"| the same by the workers' CPU time a request, c=32 | {spent:.1f} | {met(spent, 20)} |")
    for case in LONG:
        ratio = middle["terse on", case].rps / middle["litellm", case].rps
        cpu = middle["litellm", case].cpu_ms / middle["terse on", case].cpu_ms
        name = f"{case.name}, c={case.connections}: 15 times its requests a second"
        lines.append(f"| {name} | {ratio:.1f} (CPU time: {cpu:.1f}) | {met(ratio, 15)} |")
    return [*lines, "", *notes(middle), ""]


def notes(middle: dict[tuple[str, Case], Figures]) -> list[str]:
    """What the figures mean, as far as they say it themselves."""
    many = SHORT[-1]
    lines = ["## What to make of it", ""]
    if ("bare aiohttp", many) in middle:
        ours, bare = middle["terse on", many].cpu_ms, middle["bare aiohttp", many].cpu_ms
        text = f"* A short request costs {ours:.2f} ms of CPU at c={many.connections}; forwarding it with "
        text += (
            f"the same libraries and nothing else costs {bare:.2f} ms. The rest is keys, policy, counting, "
        )
        lines.append(text + "admission, usage, receipt, books, metrics and one log line.")
    for case in LONG[1::2]:
        off, on = middle["terse off", case].cpu_ms, middle["terse on", case].cpu_ms
        text = f"* {case.name}: {on:.2f} ms of CPU, {off:.2f} ms without shortening. litellm's proxy only "
        lines.append(text + "forwards these bodies: it neither counts nor shortens.")
    text = (
        "* Long texts are kept by their content: digest, counts and shortened form of a text met again are "
    )
    return [*lines, text + "found by comparing it. A new one costs its hash, its scores and its slices."]


def met(measured: float, target: float) -> str:
    """Whether at least the target was reached."""
    return "yes" if measured >= target else "no"


def machine() -> str:
    """Where and with what this ran."""
    model = next(
        (
            x.split(":")[1].strip()
            for x in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in x
        ),
        "",
    )
    names = ("granian", "starlette", "aiohttp", "httpx", "httpx-aiohttp", "litellm", "orjson", "uvloop")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    busy = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {versions}. Load generator, "
        "mock and gateway share the cores, with other work too (load average at the end: "
        f"{busy:.1f}): read ratios, not figures."
    )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--litellm", default="", help="the litellm command of a venv with litellm[proxy]")
    parser.add_argument("--seconds", type=int, default=4, help="of each round of each case")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gateway.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = report(*measure(options, Path(folder)), options)
    print(text)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
