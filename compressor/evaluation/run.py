"""One evaluation: shorten everything with every method, let the reader answer, write rows and a report.

Both halves append rows to `OUT/shortened.jsonl` and `OUT/answers.jsonl` and skip what is there already, so
that a stopped run goes on, and methods or a reader can be added to an earlier one.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from compressor.errors import InvalidOption
from compressor.evaluation.datasets import Item
from compressor.evaluation.methods.shapes import Job, Method, ShortText
from compressor.evaluation.metrics.answers import contains_answer, first_line
from compressor.evaluation.metrics.overlap import rouge_l
from compressor.evaluation.metrics.survival import fact_recall, is_json, survival
from compressor.evaluation.readers import Reader, Reply
from compressor.evaluation.rows import (
    AnswerRow,
    Key,
    ShortRow,
    append_rows,
    read_answer_rows,
    read_short_rows,
)
from compressor.evaluation.specs import MethodSpec, Setup, open_method, open_recovery
from compressor.evaluation.tasks import ANSWER_TOKENS, judge, kind_of, prompt_for, restore_prompt
from compressor.text.tokens import TokenCounter

if TYPE_CHECKING:
    from compressor.evaluation.metrics.similarity import EncoderSimilarity

BATCH = 64  # contexts that a method is given at once; rows are written after each batch
READ_BATCH = 2048  # prompts that the reader is given at once; it sorts them by length itself
RESTORE_BATCH = 256  # texts that are restored at once
RESTORE = "restore"  # the task of rows that hold restored texts
RESTORE_ROOM = 1.25  # tokens a restored text may have, over the original's: readers embellish
Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to evaluate."""

    methods: tuple[MethodSpec, ...]
    keeps: tuple[float, ...]
    limit: int  # items of each data set, 0 for all; a method's own limit wins
    out: Path
    restore: int = 0  # items of each data set that the reader also restores


def check_options(options: RunOptions) -> None:
    """Raises InvalidOption."""
    labels = [spec.label for spec in options.methods]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InvalidOption(f"two methods are called {twice[0]!r}: give one of them label=…")
    for keep in (*options.keeps, *(k for spec in options.methods for k in spec.keeps or ())):
        if not 0 <= keep <= 1:
            raise InvalidOption(f"keep {keep:g} is no share between 0 and 1")


def shorten_all(
    datasets: Sequence[Sequence[Item]], options: RunOptions, setup: Setup, progress: Progress
) -> list[ShortRow]:
    """Shortened contexts of every method, data set and rate; rows of an earlier run are not made again."""
    check_options(options)
    path = options.out / "shortened.jsonl"
    rows = read_short_rows(path)
    done = {row.key for row in rows}
    for spec in options.methods:
        pending = [
            (keep, item)
            for items in datasets
            for keep in spec.keeps or options.keeps
            for item in items[: spec.limit]
            if Key(item.dataset, item.id, spec.label, keep) not in done
        ]
        if not pending:
            continue
        method = open_method(spec, setup)
        for at in range(0, len(pending), BATCH):
            fresh = shorten_batch(spec, method, pending[at : at + BATCH], setup)
            append_rows(path, fresh)
            rows.extend(fresh)
            progress(f"shorten: {spec.label}", min(at + BATCH, len(pending)), len(pending))
    wanted = {spec.label for spec in options.methods}
    return [row for row in rows if row.key.method in wanted]


def shorten_batch(
    spec: MethodSpec, method: Method, batch: Sequence[tuple[float, Item]], setup: Setup
) -> list[ShortRow]:
    """One batch through one method, timed and measured."""
    before = setup.counter.count_many([item.context for _, item in batch])
    jobs = [
        Job(item.context, int(keep * size), keep, item.question if spec.question else "")
        for (keep, item), size in zip(batch, before, strict=True)
    ]
    reset_peak(setup.device)
    started = perf_counter()
    short = method.shorten(jobs)
    share = (perf_counter() - started) / len(batch)
    peak = peak_megabytes(setup.device)
    return [
        measure(item, spec.label, job, result, share, peak, size, setup.counter)
        for (_, item), job, result, size in zip(batch, jobs, short, before, strict=True)
    ]


def measure(  # noqa: PLR0913 - a row's parts, gathered in one place
    item: Item,
    label: str,
    job: Job,
    short: ShortText,
    seconds: float,
    peak_mb: float,
    tokens_before: int,
    counter: TokenCounter,
) -> ShortRow:
    """The row of one shortened context."""
    there_before = kind_of(item.task) == "answer" and contains_answer(item.context, item.answers)
    return ShortRow(
        key=Key(item.dataset, item.id, label, job.keep),
        tokens_before=tokens_before,
        tokens=counter.count(short.text),
        target=job.target_tokens,
        seconds=seconds,
        text=short.text,
        note=short.note,
        kept=contains_answer(short.text, item.answers) if there_before else None,
        survival=survival(item.context, short.text),
        json_valid=is_json(short.text) if is_json(item.context) else None,
        peak_mb=peak_mb,
    )


class Answering:
    """The reader's half of a run: `ask` and `restore` append to `answers.jsonl` and return all its rows."""

    def __init__(
        self,
        datasets: Sequence[Sequence[Item]],
        options: RunOptions,
        setup: Setup,
        reader: Reader,
        similarity: EncoderSimilarity | None = None,
    ) -> None:
        self._items = {(item.dataset, item.id): item for found in datasets for item in found}
        self._options = options
        self._reader = reader
        self._similarity = similarity
        self._path = options.out / "answers.jsonl"
        self._recovery = {
            spec.label: found for spec in options.methods if (found := open_recovery(spec, setup)) is not None
        }

    def ask(self, rows: Sequence[ShortRow], progress: Progress) -> list[AnswerRow]:
        """Answers over every shortened context, judged; an earlier run's are not asked again."""
        answers = self.earlier()
        done = {row.key for row in answers if row.task != RESTORE}
        pending = [row for row in rows if row.key not in done and self._has(row)]
        for limit in sorted(set(ANSWER_TOKENS.values())):
            same = [row for row in pending if ANSWER_TOKENS[kind_of(self._item(row).task)] == limit]
            for at in range(0, len(same), READ_BATCH):
                part = same[at : at + READ_BATCH]
                prompts = [prompt_for(self._item(row), row.text) for row in part]
                brief = limit == ANSWER_TOKENS["answer"]  # of these only the first line is judged
                replies = self._reader.answer(prompts, limit, first_line=brief)
                fresh = [self._judged(row, reply) for row, reply in zip(part, replies, strict=True)]
                append_rows(self._path, fresh)
                answers.extend(fresh)
                progress(f"read: {self._reader.name}", min(at + READ_BATCH, len(same)), len(same))
        return answers

    def restore(self, rows: Sequence[ShortRow], progress: Progress) -> list[AnswerRow]:
        """Asks for the originals of the first `options.restore` texts of each data set, method and rate."""
        answers = self.earlier()
        done = {row.key for row in answers if row.task == RESTORE}
        taken: Counter[tuple[str, str, float]] = Counter()
        pending = []
        for row in rows:
            group = (row.key.dataset, row.key.method, row.key.keep)
            if not self._has(row) or not row.text or taken[group] >= self._options.restore:
                continue
            taken[group] += 1
            if row.key not in done:
                pending.append(row)
        pending.sort(key=lambda row: row.tokens_before)  # a batch writes as long as its longest original
        for at in range(0, len(pending), RESTORE_BATCH):
            part = pending[at : at + RESTORE_BATCH]
            longest = int(max(row.tokens_before for row in part) * RESTORE_ROOM)
            replies = self._reader.answer([restore_prompt(row.text) for row in part], longest)
            fresh = [self._restored(row, reply) for row, reply in zip(part, replies, strict=True)]
            append_rows(self._path, fresh)
            answers.extend(fresh)
            progress(f"restore: {self._reader.name}", min(at + BATCH, len(pending)), len(pending))
        return answers

    def earlier(self) -> list[AnswerRow]:
        """This reader's answers so far, without those that failed."""
        found = read_answer_rows(self._path)
        return [row for row in found if row.reader == self._reader.name and not row.error]

    def _has(self, row: ShortRow) -> bool:
        return (row.key.dataset, row.key.item) in self._items

    def _item(self, row: ShortRow) -> Item:
        return self._items[row.key.dataset, row.key.item]

    def _judged(self, row: ShortRow, reply: Reply) -> AnswerRow:
        item, answer = self._item(row), reply.text
        recovery = self._recovery.get(row.key.method)
        if recovery is not None and kind_of(item.task) == "answer":
            answer = recovery.mend(first_line(answer), item.context, row.text)
        scores = {} if reply.error else judge(item, answer)
        if scores and self._similarity is not None and kind_of(item.task) == "summary":
            scores["similarity"] = self._similarity.f1(answer, item.answers)
        return AnswerRow(row.key, self._reader.name, item.task, answer, reply.seconds, scores, reply.error)

    def _restored(self, row: ShortRow, reply: Reply) -> AnswerRow:
        original = self._item(row).context
        scores = {} if reply.error else {"rouge_l": rouge_l(reply.text, [original])}
        recall = fact_recall(original, reply.text)
        if scores and recall is not None:
            scores["fact_recall"] = recall
        return AnswerRow(row.key, self._reader.name, RESTORE, reply.text, reply.seconds, scores, reply.error)


def reset_peak(device: str) -> None:
    """Starts a new peak, where the device keeps one."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.init()  # type: ignore[no-untyped-call]  # nothing may have touched the device yet
        torch.cuda.reset_peak_memory_stats(device)


def peak_megabytes(device: str) -> float:
    """Peak device memory since `reset_peak`; on a CPU the process's so far, earlier methods included."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
