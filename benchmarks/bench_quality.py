"""Every method at equal tokens on four question sets: `python -m benchmarks.bench_quality DATA READER OUT …`.

DATA is a folder with nq10docs, squad2dev, korquad and multihop as `qa_dev_NAME.jsonl.gz` or `NAME.jsonl`;
READER a Hugging Face folder of a causal language model, or none. It reads the answers and scores for
LLMLingua, LongLLMLingua and Selective-Context, unless --causal names another. A run that was
stopped goes on from the rows in OUT; `--report` renders what is there without asking anything. With
`--remember` each text is scored once for all rates: for quality on a CPU, not for times.

Several processes share the work by `--sets` and `--method`, each with an OUT of its own: put their rows
into one folder (`cat OUT*/shortened.jsonl`, `cat OUT*/answers.jsonl`) and render it with `--report`.
`python -m benchmarks.quality_sample` cuts the sets to the questions that will be drawn.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from compressor.evaluation.evaluate import EvaluateOptions, evaluate, report_rows
from compressor.evaluation.readers import ReaderOptions
from compressor.evaluation.report import percent
from compressor.evaluation.rows import AnswerRow, ShortRow
from compressor.evaluation.summary import summarise

SETS = ("nq10docs", "squad2dev", "korquad", "multihop")
FREE = "keep=0.5+0.33+0.2"  # without the question
ASKED = "keep=0.5+0.33+0.15"  # with it
# In order of importance: what a lease cuts off is missing at the end, and the report says so.
METHODS = (
    "full",
    "empty",
    f"terse,{FREE}",
    f"terse,question=yes,{ASKED}",
    f"first,{FREE}",
    f"sentences,{ASKED}",
    f"terse,unit=words,{FREE}",
    f"random,{FREE}",
    f"terse,protect=all,{FREE}",
    f"llmlingua2,{FREE}",
)
CAUSAL_METHODS = (f"selective-context,{FREE}", f"llmlingua,{FREE}", f"longllmlingua,{ASKED}")
REMARKS = (
    "rates: the question-free methods at 0.5, 0.33 and 0.2, those with the question at 0.5, 0.33 and 0.15",
    """`terse`: the compressor's own choice of unit, nothing protected; `terse unit=words`: words
  only; `terse protect=all`: the default protection; `terse question`: with the question""",
    """`llmlingua2`: LLMLingua-2's algorithm (compat mode) with our encoder's weights, since
  its own checkpoint cannot be had offline: it shows what the algorithm does, not what they know""",
    """`llmlingua`, `longllmlingua` and `selective-context` score with the causal model named above, in
  batches that read the kept prefix again instead of caching it: slower for one long text, faster for many""",
)

REMEMBERED = "each text was scored once for all rates and methods: shortening times mean nothing here"


def find_sets(folder: Path, names: Sequence[str]) -> list[str]:
    """NAME=FILE for each of the sets. Exits when one is missing."""
    found = []
    for name in names:
        matches = sorted([*folder.glob(f"*{name}.jsonl.gz"), *folder.glob(f"*{name}.jsonl")])
        if not matches:
            sys.exit(f"{folder}: no {name}.jsonl or .jsonl.gz")
        found.append(f"{name}={matches[0]}")
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("reader", help="folder of a causal LM, or none")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="default", help="our encoder")
    parser.add_argument("--causal", default="", help="default: the reader")
    parser.add_argument("--no-causal", action="store_true", help="leave out LLMLingua and its kin")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated: qa_dev_NAME or NAME")
    parser.add_argument("--method", action="append", default=[], help="as of terse evaluate; instead of all")
    parser.add_argument("--prompts", type=Path, help="few-shot prompts of reasoning sets")
    parser.add_argument("--similarity", default="", help="encoder that compares summaries, or default")
    parser.add_argument("--batch-tokens", type=int, default=65_536, help="that the reader reads at once")
    parser.add_argument("--rows-only", action="store_true", help="no report: it needs matplotlib")
    parser.add_argument("--only", default="", help="numbers of methods, to share the work between processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--slow-limit", type=int, default=50, help="for LLMLingua and its kin")
    parser.add_argument(
        "--trained-on", default="", help="comma-separated sets: only held-back documents of these"
    )
    parser.add_argument("--tokenizer", default="", help="of the budget, without a reader")
    parser.add_argument("--restore", type=int, default=0)
    parser.add_argument("--remember", action="store_true", help="score each text once for all rates")
    parser.add_argument("--measured-on", default="", help="with --report: machine and versions of the rows")
    parser.add_argument("--remark", action="append", default=[], help="one more line for the report's head")
    parser.add_argument("--report", action="store_true", help="only render the rows in OUT")
    return parser.parse_args()


def told(arguments: list[str]) -> list[str]:
    """The arguments that matter to who repeats a run: not those of `--report`."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--report":
            skip = False
        elif argument in ("--measured-on", "--remark"):
            skip = True
        else:
            kept.append(argument)
    return kept


def bare(argument: str) -> str:
    """A path without its folders: reports name no machine's directories."""
    return Path(argument).name if "/" in argument else argument


def show(what: str, done: int, total: int) -> None:
    print(f"{clock()}  {what}: {done}/{total}", flush=True)


def tell(method: str, short: Sequence[ShortRow], answers: Sequence[AnswerRow]) -> None:
    """The main score of each set and rate, as soon as a method is through."""
    lines: dict[str, list[str]] = {}
    for (dataset, _, keep), cell in summarise(short, answers).items():
        name, score = next(iter(cell.scores.items()), ("", None))
        shown = f" {name} {percent(score.mean)}" if score else ""
        kept = percent(cell.kept.mean if cell.kept else None)
        lines.setdefault(f"{dataset} ({cell.items})", []).append(f"{keep:g}: kept {kept}{shown}")
    for dataset, cells in lines.items():
        print(f"{clock()}  = {method} {dataset} {'; '.join(cells)}", flush=True)


def clock() -> str:
    return f"{perf_counter() - START:7.1f} s"


def chosen_methods(given: argparse.Namespace, causal: str) -> tuple[str, ...]:
    """What is compared: all methods, some of them by number, or those that are named."""
    methods = list(given.method or METHODS)
    if given.method:
        return tuple(methods)
    if causal and not given.no_causal:
        methods += [f"{method},limit={given.slow_limit}" for method in CAUSAL_METHODS]
    if given.only:
        methods = [methods[int(number)] for number in given.only.split(",")]
    return tuple(methods)


def main() -> None:
    given = parse_arguments()
    asked = given.reader != "none"
    causal = given.causal or (given.reader if asked else "")
    options = EvaluateOptions(
        data=tuple(find_sets(given.data, given.sets.split(","))),
        methods=chosen_methods(given, causal),
        out=given.out,
        limit=given.limit,
        trained_on=tuple(name for name in given.trained_on.split(",") if name),
        reader=f"hf:{given.reader}" if asked else "",
        reader_options=ReaderOptions(device=given.device, batch_tokens=given.batch_tokens),
        prompts=given.prompts,
        similarity=given.similarity,
        report=not given.rows_only,
        restore=given.restore,
        tokenizer=given.tokenizer,
        device=given.device,
        causal=causal,
        model=given.model,
        title="Quality: every method at equal tokens" if asked else "Quality without a reader",
        command=shlex.join(["python", "-m", "benchmarks.bench_quality", *map(bare, told(sys.argv[1:]))]),
        remarks=(*REMARKS, *((REMEMBERED,) if given.remember else ()), *given.remark),
        measured_on=given.measured_on,
        baseline=("terse", "terse question"),
        remember=given.remember,
    )
    if given.report:
        print(report_rows(options))
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        print(evaluate(options, show, tell))


START = perf_counter()

if __name__ == "__main__":
    main()
