"""What several GPUs of one machine do together: gateway processes beside `terse compressor serve --gpus`.

    python -m benchmarks.bench_gpus TRANSCRIPTS.txt --tokenizer FOLDER [--shape xlmr-large] [--gpus 0 all]
        [--clients 24] [--texts 32] [--precision bf16] [--json OUT.json]

For each of `--gpus`: the rate of scores, and from text to text, of so many client processes with so many
texts each, that share one compressor process with one encoder a GPU; random weights of a published shape. A
row is printed once it is measured. --rehearse: encoders on this machine's CPU instead, which measures
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import traceback
from pathlib import Path

from benchmarks.encoders.gpu import Case
from benchmarks.encoders.measuring import ROWS, note
from benchmarks.encoders.models import REFERENCE_NAME, SHAPES, make_model
from benchmarks.encoders.processes import bench_processes, compressor_process


def main() -> None:
    """One compressor process after the other, each with its number of GPUs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--shape", default="xlmr-large", choices=SHAPES)
    parser.add_argument("--gpus", nargs="+", default=["0", "all"])
    parser.add_argument("--clients", type=int, default=24)
    # With 8 a client two GPUs are done after a second, of which the start takes some per cent.
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    import torch

    count = 2 if options.rehearse else torch.cuda.device_count()
    device = "CPU, a rehearsal" if options.rehearse else f"{count} x {torch.cuda.get_device_name()}"
    print(f"{device}; torch {torch.__version__}; Python {platform.python_version()}; {os.cpu_count()} cores")
    text = " ".join(options.text.read_text(encoding="utf-8").split(" ")[: options.words])
    home = Path(tempfile.mkdtemp())
    folder = make_model(home / REFERENCE_NAME[options.shape], options.shape, options.tokenizer)
    case = Case(options.shape, folder, text, (options.clients,), 0)
    texts = case.prompts(options.texts * options.clients)
    try:
        for gpus in options.gpus:
            encoders = count if gpus == "all" else len(gpus.split(","))
            places = (
                ["--replicas", str(encoders), "--device", "cpu"] if options.rehearse else ["--gpus", gpus]
            )
            what = f"{options.precision}: {encoders} encoder processes, a GPU each"
            try:
                with compressor_process(folder, options.precision, places, encoders) as url:
                    for chosen in (True, False):
                        bench_processes(options.shape, what, url, texts, options.clients, chosen=chosen)
            except Exception as error:  # noqa: BLE001 - the machine's time is short: go on
                traceback.print_exc()
                note(options.shape, f"{what} FAILED: {error}", 0, "")
    finally:
        shutil.rmtree(home)
        if options.json:
            options.json.write_text(
                json.dumps({"device": device, "torch": torch.__version__, "rows": ROWS}, indent=1)
            )


if __name__ == "__main__":
    main()
