"""Have a teacher shorten chunks by deletion, or ask questions about them. Stops and goes on without paying
twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import Progress

from compressor.training.instructions import Message, Variant, prompt_for, questions_in, why_useless
from compressor.training.records import (
    Chunk,
    Distilled,
    answerable_line,
    distilled_line,
    read_objects,
    write_lines,
)
from compressor.training.teacher import Estimate, Reply, Teacher, estimate, in_groups


class RunDeclined(Exception):
    """The caller looked at the estimate and said no; nothing was sent."""


class ReplyCache:
    """Replies on disk, one line each, by teacher and prompt; a torn last line is ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Reply] = {}
        if path.exists():
            self._drop_torn_line()
            for _, value in read_objects(path):
                self._found[str(value["key"])] = Reply(
                    str(value["text"]), "", value["asked"], value["answered"]
                )

    def _drop_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._path.write_bytes(whole)

    @staticmethod
    def key(teacher: str, prompt: Sequence[Message]) -> str:
        """Names a prompt to a teacher."""
        return hashlib.sha256(orjson.dumps([teacher, *prompt])).hexdigest()

    def get(self, key: str) -> Reply | None:
        """The reply that was paid for before, if any."""
        return self._found.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Remembers a reply at once; troubles are asked again next time."""
        if reply.trouble:
            return
        self._found[key] = reply
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "key": key,
            "text": reply.text,
            "asked": reply.prompt_tokens,
            "answered": reply.completion_tokens,
        }
        with self._path.open("ab") as out:
            out.write(orjson.dumps(line) + b"\n")


@dataclass(slots=True)
class DistillReport:
    """What a run gave: counts of chunks, of cached replies, of tokens, and of everything that was of no
    use.
    """

    chunks: int = 0
    cached: int = 0
    written: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    useless: Counter[str] = field(default_factory=Counter)
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask, of whom, and where to put it."""

    teacher: Teacher
    variant: Variant
    cache: ReplyCache
    out: Path
    approve: Callable[[Estimate], bool]
    ask: Callable[[Teacher, Sequence[list[Message]]], Iterator[tuple[int, Reply]]] = in_groups


def distill(chunks: Sequence[Chunk], job: Job, console: Console) -> DistillReport:
    """Asks for every chunk and writes `job.out`: deletion pairs, or question-and-answer records for "ask".

    `job.approve` sees the estimate of what is not cached yet before anything is sent; on False RunDeclined
    is raised.
    """
    report = DistillReport(chunks=len(chunks))
    prompts = {chunk.id: prompt_for(job.variant, chunk.text) for chunk in chunks}
    keys = {name: ReplyCache.key(job.teacher.name, prompt) for name, prompt in prompts.items()}
    missing = [chunk for chunk in chunks if job.cache.get(keys[chunk.id]) is None]
    report.cached = len(chunks) - len(missing)
    if missing and not job.approve(estimate(job.teacher, [prompts[chunk.id] for chunk in missing])):
        raise RunDeclined
    troubles = _ask(missing, prompts, keys, job, console, report)
    report.useless.update(troubles.values())
    report.usd = job.teacher.price(report.prompt_tokens, report.completion_tokens)
    report.written = write_lines(job.out, _lines(chunks, keys, job, report))
    return report


def _ask(
    missing: Sequence[Chunk],
    prompts: dict[str, list[Message]],
    keys: dict[str, str],
    job: Job,
    console: Console,
    report: DistillReport,
) -> dict[str, str]:
    """Asks for what is missing, caching each reply as it comes; returns the troubles by chunk."""
    troubles: dict[str, str] = {}
    with Progress(console=console) as bar:
        task = bar.add_task("asking the teacher", total=len(missing))
        for at, reply in job.ask(job.teacher, [prompts[chunk.id] for chunk in missing]):
            chunk = missing[at]
            job.cache.put(keys[chunk.id], reply)
            report.prompt_tokens += reply.prompt_tokens
            report.completion_tokens += reply.completion_tokens
            if reply.trouble:
                troubles[chunk.id] = reply.trouble
            bar.advance(task)
    return troubles


def _lines(chunks: Sequence[Chunk], keys: dict[str, str], job: Job, report: DistillReport) -> Iterator[bytes]:
    for chunk in chunks:
        reply = job.cache.get(keys[chunk.id])
        if reply is None:
            continue
        if job.variant == "ask":
            found = questions_in(chunk, reply.text, lambda reason: report.useless.update([reason]))
            yield from map(answerable_line, found)
        elif reason := why_useless(chunk.text, reply.text):
            report.useless[reason] += 1
        else:
            yield distilled_line(Distilled(chunk, reply.text.strip(), job.teacher.name))
