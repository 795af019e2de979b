"""Writes the savings report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.savings.facts import Share


def write_report(
    path: Path,
    results: Mapping[str, Mapping[str, list[Any]]],
    arguments: argparse.Namespace,
    machine: str,
    seconds: float,
) -> None:
    """Markdown: one table a scenario, then what must hold."""
    lines = []
    worst: list[tuple[float, str]] = []
    for scenario, providers in results.items():
        lines += [f"### {scenario}", "", _HEAD, _RULE]
        for provider, bills in providers.items():
            off = bills[0]
            for bill in bills:
                change = 100 * (bill.net / off.net - 1)
                if bill.sender.startswith("Terse"):
                    worst.append((change, f"{scenario}, {provider}, {bill.sender}"))
                lines.append(_row(provider, bill, off, change))
        lines.append("")
    worst.sort(reverse=True)
    verdict = (
        "No scenario costs more than off by over 1 %." if worst[0][0] <= 1 else "The target (1 %) is missed."
    )
    command = (
        f"`python -m benchmarks.bench_savings --data … --engine {arguments.engine} "
        f"--conversations {arguments.conversations} --seed {arguments.seed}`"
    )
    head = [
        "# Savings, net of prompt caches",
        "",
        f"{command}; {machine}, {seconds:.0f} s, tiktoken {version('tiktoken')}.",
        _engine_of(arguments.engine),
        "",
        *_METHOD,
        "",
        f"**Worst Terse scenario: {worst[0][0]:+.2f} % ({worst[0][1]}).** {verdict}",
        _against_masking(results),
        _receipts(results),
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(head + lines).rstrip() + "\n", encoding="utf-8")


def _against_masking(results: Mapping[str, Mapping[str, list[Any]]]) -> str:
    """Whether the default policy beats masking old results, net; and by how much it does not."""
    beaten, lost = 0, []
    for scenario, providers in results.items():
        for provider, bills in providers.items():
            mask = next(bill for bill in bills if bill.sender == "mask old results")
            default = next(bill for bill in bills if bill.sender == "Terse")
            if 1.001 * mask.net < default.net:
                more = 100 * (default.net / mask.net - 1)
                lost.append(f"{scenario}, {provider}: {more:.2f} % dearer")
            beaten += 1.001 * mask.net >= default.net
    where = f" Not in: {'; '.join(lost)}." if lost else ""
    return f"**The default policy costs no more than masking (to 0.1 %), net, in {beaten} cases.**{where}"


def _receipts(results: Mapping[str, Mapping[str, list[Any]]]) -> str:
    """By how much the receipts are off, of the default policy and of all."""
    known, guessed = [], []
    for providers in results.values():
        for provider, bills in providers.items():
            for bill in bills[1:]:
                saved = bills[0].usd - bill.usd
                if bill.claimed_usd is not None and saved > 0.01 * bills[0].usd:
                    off = 100 * (bill.claimed_usd / saved - 1)
                    (known if provider.startswith("gpt") else guessed).append(off)
    said = []
    for name, values in (("known", known), ("guessed", guessed)):
        if values:
            said.append(f"{min(values):+.1f} to {max(values):+.1f} % where the tokenizer is {name}")
    return f"**Receipts against what was really saved: {', '.join(said)}.**"


def _engine_of(name: str) -> str:
    if name == "fake":
        return "Scores: the fake engine (a hash of each word): sizes are real, choices are not."
    return f"Scores: {'the embedded encoder' if name == 'default' else Path(name).name}."


_HEAD = (
    "| model | sent as | bill $ | our scoring $ | net against off | worst conversation | cache hit rate | "
    "kept at the end | compactions | receipts say saved $ (really) | quoted later, still there | "
    "figures held | errors held |"
)
_RULE = "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
_METHOD = (
    "The upstream is a simulator that caches and bills as the providers' documentation says",
    "(`benchmarks/savings/upstream.py`): prefixes in steps of 128 or 64 tokens, or at markers; time to",
    "live after the last use; prices of litellm's map. Gaps between requests are exponential, one in",
    "thirty is a break of 20 minutes. The bill has input and output; output is what the recorded",
    "conversation goes on with, the same for all. *Our scoring* is the machine's rent for the tokens",
    "scored. *Worst conversation*: of the upstream's bill against off. *Kept at the end*: tokens of the",
    "last request against the original; masking throws away, the others shorten. *Receipts say*: the sum",
    "of `saved_usd` against the difference of the two bills.",
    "",
    "Answers are not judged here, but what they would need is looked for. *Quoted later*: figures, names",
    "and paths that the recorded model says or calls next and that stand in nothing but results older than",
    "the newest three; the share that the request still has. Recorded agents quote little from far back.",
    "*Figures held*, *errors held*: of all such words, and of all lines that speak of an error (the same but",
    "for figures counted once; half of its words in a line that still does are enough), in those old",
    "results, the share that the last request has where it stood.",
    "",
    "Ways to send: **off**; **Terse** with the default policy (keep 0.5 from 1,024 compressible tokens",
    "on); **naive**: the same scores and protections, but the whole conversation is compressed anew at",
    "each turn to half of all of it; **LLMLingua-like**: the same without protections, the model's own",
    "turns included, and without a score cache; **mask old results**: all but the newest three long",
    "results or documents are replaced by a note. The default policy shortens all but the newest three",
    "results of tools once more to a quarter, at compactions, when they pay (`old_results: {newest: 3,",
    "keep: 0.25}`); **off** leaves that away, **left out** is `keep: 0`: a note stands in their place.",
    "Agents on Claude mark their newest block at every turn, so that the default leaves it as it is;",
    "**freed**: a rule says `mode: on` for marked results. Claude's tokenizer is o200k_base with 18 of a",
    "hundred kinds of tokens as two, DeepSeek's is o200k_base; for both, Terse has to learn that.",
)


def _claimed(bill: Any, saved: float) -> str:
    """What the receipts say, and by how much they are off."""
    if bill.claimed_usd is None:
        return ""
    off = f", {100 * (bill.claimed_usd / saved - 1):+.1f} %" if saved > 1e-9 else ""
    return f"{bill.claimed_usd:.4f} ({saved:.4f}{off})"


def _percent(share: Share) -> str:
    return f"{100 * share.found / share.asked:.0f} %" if share.asked else ""


def _row(provider: str, bill: Any, off: Any, change: float) -> str:
    pairs = zip(bill.by_conversation, off.by_conversation, strict=True)
    worst = max(100 * (one / other - 1) for one, other in pairs)
    claimed = _claimed(bill, off.usd - bill.usd)
    cells = [
        provider,
        bill.sender,
        f"{bill.usd:.4f}",
        f"{bill.own_usd:.4f}",
        "" if bill is off else f"{change:+.1f} %",
        "" if bill is off else f"{worst:+.1f} %",
        f"{bill.cached_tokens / max(1, bill.input_tokens):.2f}",
        f"{sum(bill.kept) / len(bill.kept):.2f}",
        str(bill.compactions) if bill.claimed_usd is not None else "",
        claimed,
        str(bill.facts.quoted),
        _percent(bill.facts.figures),
        _percent(bill.facts.errors),
    ]
    return "| " + " | ".join(cells) + " |"
