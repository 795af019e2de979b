"""Speed and memory of the compressor on a GPU beside llmlingua 0.2.2 as shipped, text to text, in one run.

    python -m benchmarks.bench_compressor TRANSCRIPTS.txt --tokenizer FOLDER --tiktoken FOLDER
        [--shapes xlmr-large,mbert-base,embedded] [--parts reference,alone,pool,prompt-fp8]
        [--processes 12,8,15] [--texts 128] [--words 60000] [--json OUT.json]

Encoders have the published shapes and random weights, since speed does not depend on their values. Each part
runs alone, in the order given; `-fp8` behind one picks the precision, bf16 otherwise, `:12` a number of
processes. A row is printed once it is measured. TRANSCRIPTS: meeting transcripts, UTF-8. --tokenizer: a
folder with a tokenizer.json and tokenizer_config.json, for all shapes. --tiktoken: token files for
llmlingua's counts offline. Needs llmlingua==0.2.2 for the part `reference`. On CPU cores: `python -m
benchmarks.bench_compressor_cpu`; several GPUs: `python -m benchmarks.bench_gpus`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

from benchmarks.encoders.gpu import PARTS, Case, run_part
from benchmarks.encoders.measuring import ROWS
from benchmarks.encoders.models import REFERENCE_NAME, SHAPES, make_model

EVERYTHING = (
    "reference,alone,pool,prompt,texts,scores,callers,growth,packed,"
    "prompt-fp8,scores-fp8,packed-fp8,pool-fp8:12"
)


def main() -> None:
    """Makes each shape's model and runs its parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--tiktoken", type=Path, required=True)
    parser.add_argument("--shapes", default="xlmr-large,mbert-base,embedded")
    parser.add_argument("--parts", default=EVERYTHING)
    parser.add_argument("--processes", default="12,8,15")
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--device", default="cuda", help="cpu only rehearses: nothing is measured on it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shapes, parts = options.shapes.split(","), options.parts.split(",")
    if unknown := {part.partition(":")[0].partition("-")[0] for part in parts} - {*PARTS} | {*shapes} - {
        *SHAPES
    }:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.environ.update(
        TIKTOKEN_CACHE_DIR=str(options.tiktoken.resolve()), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true"
    )
    import torch

    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU, a rehearsal"
    print(f"{device}; torch {torch.__version__}; Python {platform.python_version()}; {os.cpu_count()} cores")
    text = " ".join(options.text.read_text(encoding="utf-8").split(" ")[: options.words])
    processes = tuple(int(number) for number in options.processes.split(","))
    try:
        for shape in shapes:
            home = Path(tempfile.mkdtemp())
            folder = make_model(home / REFERENCE_NAME[shape], shape, options.tokenizer)
            case = Case(shape, folder, text, processes, options.texts, options.device)
            try:
                for part in parts:
                    run_part(case, part)
            finally:
                case.close()
                shutil.rmtree(home)
    finally:
        if options.json:
            options.json.write_text(
                json.dumps({"device": device, "torch": torch.__version__, "rows": ROWS}, indent=1)
            )


if __name__ == "__main__":
    main()
