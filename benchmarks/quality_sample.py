"""Cuts question sets to what `bench_quality` will draw: `python -m benchmarks.quality_sample DATA OUT …`.

DATA has the sets as `qa_dev_NAME.jsonl.gz`. What is written is small enough to be carried to another
machine, and `bench_quality` draws the same questions from it as from the whole. Meetings are cut to the part
that their question is about, with what is said around it; reasoning sets are GSM8K and all BBH tasks as one.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from compressor.evaluation.datasets import Item, held_back_items, parse_item, read_prompts, sample_items
from compressor.training.records import read_objects

PROMPTS = "prompts_cot.jsonl.gz"
REASONING = "icl_dev.jsonl.gz"
MEETINGS = "meetings_qmsum"
MOST_CHARACTERS = 14_000  # of a meeting: some 3,500 tokens
AROUND = 20  # turns before and behind those that answer


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_objects(path)]


def draw(
    rows: Iterable[dict[str, Any]], name: str, limit: int, held_back: bool, prompts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows of the items that a run with this limit draws."""
    by_item: dict[str, dict[str, Any]] = {}
    items: list[Item] = []
    for number, row in enumerate(rows):
        item = parse_item(row, f"{name}:{number}", name, prompts)
        by_item[item.id] = row
        items.append(item)
    return [by_item[item.id] for item in sample_items(held_back_items(items) if held_back else items, limit)]


def cut_meeting(row: dict[str, Any]) -> dict[str, Any]:
    """A meeting from some turns before the first evidence to some behind the last, up to a length."""
    turns = row["context"].split("\n")
    spans = row.get("evidence_turns") or [[0, len(turns)]]
    first = max(0, min(span[0] for span in spans) - AROUND)
    last = max(span[1] for span in spans) + AROUND
    kept: list[str] = []
    for turn in turns[first : last + 1]:
        if sum(map(len, kept)) + len(turn) > MOST_CHARACTERS:
            break
        kept.append(turn)
    return {**row, "context": "\n".join(kept)}


def short_enough(row: Mapping[str, Any]) -> bool:
    """Whether all that a meeting's question is about fits into the part that is kept."""
    turns = row["context"].split("\n")
    spans = row.get("evidence_turns") or []
    if not spans:
        return False
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    return 2_000 < sum(map(len, turns[max(0, first - AROUND) : last + 1])) <= MOST_CHARACTERS


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with gzip.open(path, "wb") as out:
        out.writelines(orjson.dumps(row) + b"\n" for row in rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="questions a set")
    parser.add_argument("--summaries", type=int, default=40, help="of each summary set")
    parser.add_argument("--reasoning", type=int, default=80, help="questions of GSM8K, and of all BBH tasks")
    parser.add_argument("--sets", default="nq10docs,squad2dev,korquad,multihop,jaquad,xquad")
    parser.add_argument("--trained-on", default="nq10docs,squad2dev,jaquad,xquad")
    return parser.parse_args()


def main() -> None:
    given = parse_arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(given.data / PROMPTS)
    trained = set(given.trained_on.split(","))
    written: dict[str, list[dict[str, Any]]] = {}
    for name in given.sets.split(","):
        rows = read_rows(given.data / f"qa_dev_{name}.jsonl.gz")
        written[f"qa_dev_{name}"] = draw(rows, name, given.limit, name in trained, prompts)
    dialogues = read_rows(given.data / "qa_dev_dialog_summ.jsonl.gz")
    long = [row for row in dialogues if len(row["context"]) >= 1_000]
    written["qa_dev_dialog_summ"] = draw(long, "dialog_summ", given.summaries, False, prompts)
    meetings = [row for row in read_rows(given.data / f"qa_dev_{MEETINGS}.jsonl.gz") if short_enough(row)]
    written[f"qa_dev_{MEETINGS}"] = draw(
        map(cut_meeting, meetings), MEETINGS, given.summaries, False, prompts
    )
    reasoning = read_rows(given.data / REASONING)
    for name, task in (("gsm8k", "gsm8k"), ("bbh", "bbh/")):
        mine = [row for row in reasoning if str(row["task"]).startswith(task)]
        written[name] = draw(mine, name, given.reasoning, False, prompts)
    for name, rows in written.items():
        write_rows(given.out / f"{name}.jsonl.gz", rows)
        print(f"{name}: {len(rows)} items")
    shutil.copyfile(given.data / PROMPTS, given.out / PROMPTS)


if __name__ == "__main__":
    main()
