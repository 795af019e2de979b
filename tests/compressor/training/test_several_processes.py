"""torchrun over two processes (gloo, CPU) trains like one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from compressor.training.label_sources import label_answers
from compressor.training.records import labelled_line, read_answerable, write_lines
from tests.compressor.training.conftest import questions, write_rows

ROOT = Path(__file__).parents[3]


def trained(folder: Path, base: Path, processes: int) -> dict[str, object]:
    out = folder / f"by-{processes}"
    command = ["-m", "gateway", "train", "--out", str(out), "--base", str(base), "--device", "cpu"]
    command += ["--data", str(folder / "labelled.jsonl"), "--questions", str(folder / "qa.jsonl")]
    command += ["--epochs", "4", "--learning-rate", "3e-3", "--batch-tokens", str(1024 // processes)]
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *start, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "USE_LIBUV": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    notes: dict[str, object] = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return notes


def test_two_processes_learn_what_one_learns(tmp_path: Path, tiny_base: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", questions(48))
    labelled = label_answers(read_answerable(tmp_path / "qa.jsonl"))
    write_lines(tmp_path / "labelled.jsonl", map(labelled_line, labelled))
    one, two = trained(tmp_path, tiny_base, 1), trained(tmp_path, tiny_base, 2)
    first, last = (run["history"][at] for run, at in ((two, 0), (two, -1)))  # type: ignore[index]
    assert last["losses"]["label"] < first["losses"]["label"]
    assert abs(float(one["best"]) - float(two["best"])) < 0.1  # type: ignore[arg-type]
