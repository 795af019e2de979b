"""What must survive, on real texts: `python -m benchmarks.bench_survival DATA`.

JSON: every document, alone, inside prose, in a code fence and as a tool's result in a conversation, is
shortened as far as it goes and half as far, and compared with the original by this script's own rules. Facts:
numbers, identifiers, URLs and negations under the default protection, as far as it goes, counted by the
patterns of the evaluation, which are not those that protect. Scores are a hash of each word, so that nothing
survives because an encoder likes it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.compress import Compressor
from compressor.engine.fake import FakeEngine
from compressor.errors import BudgetTooSmall
from compressor.evaluation.metrics.survival import facts
from compressor.training.records import read_objects

SHORT = 80  # characters: shorter strings are names and labels, and stay
HALF, LEAST = 0.5, 0.0  # of what may go, how much stays
FACTS = ("numbers", "identifiers", "urls", "negations")
QUESTION = "What does the newest entry say, and who wrote it?"
NOT_TEXT = ("icl_dev", "prompts_", "train_")


@dataclass(slots=True)
class Tally:
    """Counts of one kind of document or text."""

    texts: int = 0
    rigid: int = 0  # nothing of it may go
    shortened: int = 0
    tokens: int = 0
    tokens_after: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document and where it stands."""

    kind: str
    text: str
    value: Any


def rows_of(path: Path) -> list[Mapping[str, Any]]:
    return [row for _, row in read_objects(path)]


def json_documents(data: Path) -> Iterator[tuple[str, str]]:
    """Source and text of the documents that the data has: API payloads, records, lists of functions."""
    for row in rows_of(data / "raw_text_logs_json_tools.jsonl.gz"):
        text, source = str(row["text"]), str(row["source"])
        if source.startswith(("bfcl", "toolbench")):
            found = first_json(text)
            if found is not None:
                yield "function lists", found
        elif is_json(text):
            yield "webhooks" if source.startswith("octokit") else "records", text
    for row in rows_of(data / "qa_dev_structured.jsonl.gz"):
        if is_json(str(row["context"])):
            yield "questions over JSON", str(row["context"])


def tool_results(data: Path) -> Iterator[tuple[str, str]]:
    """Search results as tools give them: real passages as long strings, four languages and layouts."""
    layouts: tuple[dict[str, Any], ...] = (
        {"ensure_ascii": False},
        {"ensure_ascii": True},
        {"ensure_ascii": False, "indent": 2},
        {"ensure_ascii": False, "separators": (",", ":")},
    )
    for name, layout in zip(("squad2dev", "xquad", "korquad", "zh_drcd_cmrc"), layouts, strict=True):
        texts = list(dict.fromkeys(str(row["context"]) for row in rows_of(data / f"qa_dev_{name}.jsonl.gz")))
        for at in range(0, min(len(texts), 240) - 3, 4):
            results = [
                {
                    "id": at + place,
                    "url": f"https://example.org/{name}/{at + place}?from=search&page=1",
                    "score": 0.93 - place / 7,
                    "title": text[:40],
                    "text": text
                    + ('\n\n"Quoted", tabbed\there, and a path C:\\temp\\new.' if place == 1 else ""),
                    "tags": ["wiki", None, True],
                }
                for place, text in enumerate(texts[at : at + 4])
            ]
            document = {"ok": True, "took_ms": 1.5e2, "total": len(texts), "results": results}
            yield "tool results", json.dumps(document, **layout)
            if at % 12 == 0:
                yield "JSON lines", "\n".join(json.dumps(result, ensure_ascii=False) for result in results)


def first_json(text: str) -> str | None:
    """The first JSON value of a text, as it is written there."""
    for start in sorted(place for sign in "[{" if (place := text.find(sign)) >= 0):
        try:
            _, end = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            continue
        return text[start:end]
    return None


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


def parsed(text: str) -> Any:
    """One document, or one a line, with repeated keys kept."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs))
    except ValueError:
        return [
            json.loads(line, object_pairs_hook=lambda pairs: ("object", pairs)) for line in text.split("\n")
        ]


def difference(before: Any, after: Any) -> str:
    """What a program that reads both would notice; long strings may have lost words, nothing else."""
    if type(before) is not type(after):
        return f"{type(before).__name__} became {type(after).__name__}"
    if isinstance(before, str):
        if before == after:
            return ""
        if len(before) < SHORT:
            return f"short string changed: {before[:40]!r}"
        return "" if is_subsequence(after, before) else f"signs that were not there: {after[:60]!r}"
    if isinstance(before, (list, tuple)):
        if len(before) != len(after):
            return "another length"
        return next((found for pair in zip(before, after, strict=True) if (found := difference(*pair))), "")
    return "" if before == after else f"{before!r} became {after!r}"


def is_subsequence(part: str, whole: str) -> bool:
    signs = iter(whole)
    return all(sign in signs for sign in part)


async def least_tokens(compressor: Compressor, content: Any) -> int | None:
    """What must stay of it, in tokens; None where all of it may go."""
    try:
        await compressor.acompress(content, target_tokens=1)
    except BudgetTooSmall as error:
        return 1 + error.short_by
    return None


def in_place(place: str, text: str, aside: str) -> Any:
    """The document as it comes to a gateway."""
    if place == "alone":
        return text
    if place == "in prose":
        return f"{aside}\n\nThe service answered:\n{text}\n\n{aside}"
    if place == "in a fence":
        return f"{aside}\n\n```json\n{text}\n```\n\n{aside}"
    call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "a"}'}}
    return [
        {"role": "system", "content": "You answer from the tool's result."},
        {"role": "user", "content": aside},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": text},
        {"role": "user", "content": QUESTION},
    ]


def document_in(place: str, result: Any) -> str | None:
    """The document in what came out."""
    if place == "alone":
        return str(result.text)
    if place == "in a conversation":
        return str(result.messages[3]["content"])
    return first_json(result.text)  # the prose around it has no brackets


async def check_json(
    compressor: Compressor, document: str, aside: str, tallies: Mapping[Any, Tally], kind: str
) -> None:
    """One document in all its places, as far as it goes and half as far."""
    before = parsed(document)
    for place in ("alone", "in prose", "in a fence", "in a conversation"):
        if kind == "JSON lines" and place in ("in prose", "in a fence"):
            continue
        tally = tallies[kind, place]
        tally.texts += 1
        content = in_place(place, document, aside)
        whole = await compressor.acompress(content, keep=1.0)
        least = await least_tokens(compressor, content)
        if least is None or least >= whole.tokens_before:
            tally.rigid += 1
            continue
        for share in (LEAST, HALF):
            target = int(least + share * (whole.tokens_before - least))
            result = await compressor.acompress(content, target_tokens=target)
            found = document_in(place, result)
            tally.tokens += whole.tokens_before
            tally.tokens_after += result.tokens_after
            tally.shortened += found != document
            try:
                wrong = "gone" if found is None else difference(before, parsed(found))
            except ValueError as error:
                wrong = f"does not parse: {error}"
            if wrong:
                tally.wrong.append(f"{kind} {place} at {target}: {wrong}: {document[:80]!r}")


async def check_facts(
    compressor: Compressor, text: str, language: str, counts: Mapping[Any, Counter[str]]
) -> None:
    """The facts of one text before and after it is shortened as far as it goes."""
    least = await least_tokens(compressor, text)
    result = await compressor.acompress(text, target_tokens=least or 1)
    counts["all"]["texts"] += 1
    counts["all"]["tokens"] += result.tokens_before
    counts["all"]["tokens after"] += result.tokens_after
    for kind in FACTS:
        before, after = facts(text, kind), facts(result.text, kind)
        lost = before - after
        for group in ("all", language):
            counts[group][kind] += before.total()
            counts[group][f"{kind} lost"] += lost.total()
        for fact in lost:
            counts["lost"][f"{language} {kind} {fact!r}"] += lost[fact]


def prose_texts(data: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Language and text of every set of questions and raw texts, up to a number each."""
    for path in sorted(data.glob("*.jsonl.gz")):
        if path.name.startswith(NOT_TEXT) or "structured" in path.name or "logs_json" in path.name:
            continue
        taken: Counter[str] = Counter()
        seen: set[str] = set()
        for row in rows_of(path):
            text = str(row.get("context") or row.get("text") or "")[:12_000]
            language = str(row.get("lang", "en"))
            if text and text not in seen and taken[language] < limit:
                seen.add(text)
                taken[language] += 1
                yield language, text


async def run(data: Path, limit: int, most: int) -> None:
    compressor = Compressor(FakeEngine())
    asides = [
        text for _, text in prose_texts(data, 3) if 300 < len(text) < 2_000 and not set("[{") & set(text)
    ]
    tallies: dict[Any, Tally] = defaultdict(Tally)
    taken: Counter[str] = Counter()
    for number, (kind, document) in enumerate((*json_documents(data), *tool_results(data))):
        if taken[kind] < most and len(document) < 60_000:
            taken[kind] += 1
            await check_json(compressor, document, asides[number % len(asides)], tallies, kind)
    tell_json(tallies)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for language, text in prose_texts(data, limit):
        await check_facts(compressor, text, language, counts)
    tell_facts(counts)


def tell_json(tallies: Mapping[Any, Tally]) -> None:
    print("| JSON | place | documents | nothing may go | results | shortened | tokens after | invalid |")
    print("|---|---|---|---|---|---|---|---|")
    for (kind, place), tally in tallies.items():
        results = 2 * (tally.texts - tally.rigid)
        after = f"{100 * tally.tokens_after / tally.tokens:.0f} %" if tally.tokens else "–"
        cells = (kind, place, tally.texts, tally.rigid, results, tally.shortened, after, len(tally.wrong))
        print(f"| {' | '.join(map(str, cells))} |")
    for tally in tallies.values():
        for wrong in tally.wrong[:5]:
            print(f"* {wrong}")


def tell_facts(counts: Mapping[str, Counter[str]]) -> None:
    every = counts["all"]
    print(f"\n{every['texts']} texts, {every['tokens']} tokens, {every['tokens after']} left\n")
    print("| language | " + " | ".join(FACTS) + " |\n|---|" + "---|" * len(FACTS))
    for group in ("all", *sorted(set(counts) - {"all", "lost"})):
        cells = [
            f"{counts[group][kind] - counts[group][f'{kind} lost']} of {counts[group][kind]}"
            for kind in FACTS
        ]
        print(f"| {group} | " + " | ".join(cells) + " |")
    for fact, times in counts["lost"].most_common(40):
        print(f"* lost: {fact} × {times}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=60, help="texts of each file and language")
    parser.add_argument("--documents", type=int, default=120, help="JSON documents of each kind")
    given = parser.parse_args()
    asyncio.run(run(given.data, given.limit, given.documents))


if __name__ == "__main__":
    main()
