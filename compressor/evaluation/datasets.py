"""Questions over contexts, in one simple JSONL form, plain or gzipped.

One object a line: `id`, `context`, `question`, `answers` (a list, or one string), and optionally `task`
(qa, yesno, summ, qsumm, gsm8k, bbh/…), `lang`, `doc`. A line with `prompt_id` instead of `context` takes its
context from a file of prompts (`prompt_id`, `prompt`): that is how few-shot reasoning sets are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.training.records import (
    InvalidRecord,
    Origin,
    is_held_back,
    origin_of,
    read_objects,
    text_of,
)

HELD_BACK = 0.2  # share of the documents that training never sees; `terse train` holds back the same ones


@dataclass(frozen=True, slots=True)
class Item:
    """One question over one context."""

    dataset: str
    id: str
    context: str
    question: str
    answers: tuple[str, ...]
    task: str = "qa"
    origin: Origin = field(default_factory=lambda: Origin(""))


def read_prompts(path: Path) -> dict[str, str]:
    """Few-shot prompts by their `prompt_id`. Raises InvalidRecord."""
    prompts = {}
    for number, row in read_objects(path):
        where = f"{path}:{number}"
        prompts[text_of(row, "prompt_id", where)] = text_of(row, "prompt", where)
    return prompts


def parse_item(row: Mapping[str, Any], where: str, dataset: str, prompts: Mapping[str, str]) -> Item:
    """The item in one line's object. Raises InvalidRecord that begins with `where`."""
    if "context" not in row and "prompt_id" in row:
        prompt_id = text_of(row, "prompt_id", where)
        if prompt_id not in prompts:
            raise InvalidRecord(f"{where}: no prompt {prompt_id!r}: name the file of prompts")
        context = prompts[prompt_id]
    else:
        context = text_of(row, "context", where)
    found = row.get("answers")
    answers = [found] if isinstance(found, str) else found
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise InvalidRecord(f"{where}: 'answers' must be a list of strings, not empty")
    return Item(
        dataset=dataset,
        id=text_of(row, "id", where),
        context=context,
        question=text_of(row, "question", where),
        answers=tuple(answers),
        task=text_of(row, "task", where, "qa"),
        origin=origin_of(row, where, context),
    )


def read_items(path: Path, name: str = "", prompts: Mapping[str, str] | None = None) -> list[Item]:
    """Every item of a file. `name` defaults to the file's. Raises InvalidRecord with file and line number."""
    dataset = name or dataset_name(path)
    return [parse_item(row, f"{path}:{number}", dataset, prompts or {}) for number, row in read_objects(path)]


def dataset_name(path: Path) -> str:
    """`nq10docs` for `…/qa_dev_nq10docs.jsonl.gz`."""
    return path.name.split(".")[0].removeprefix("qa_dev_")


def held_back_items(items: Sequence[Item]) -> list[Item]:
    """The items over documents that `terse train` holds back, on which a model of this set may be judged."""
    return [item for item in items if is_held_back(item.origin, HELD_BACK)]


def sample_items(items: Sequence[Item], limit: int, seed: int = 0) -> list[Item]:
    """At most `limit` items (0: all): the same ones whatever the file's order, spread over its documents."""

    def draw(item: Item) -> str:
        return hashlib.sha256(f"{seed}:{item.id}".encode()).hexdigest()

    ordered = sorted(items, key=draw)
    return ordered[:limit] if limit > 0 else ordered
