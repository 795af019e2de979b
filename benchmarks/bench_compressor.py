"""Speed and memory of the compressor beside llmlingua 0.2.2 as shipped, text to text, in one run.

    python -m benchmarks.bench_compressor TRANSCRIPTS.txt --tokenizer FOLDER --tiktoken FOLDER
        [--model FOLDER] [--shapes embedded,xlmr-large,mbert-base] [--words 60000] [--json OUT.json]

On a GPU it measures the shapes with random weights, since speed does not depend on their values; on a CPU
the model. TRANSCRIPTS: meeting transcripts, UTF-8. --tokenizer: a folder with XLM-R's tokenizer.json, for the
counts offline. --model: a Hugging Face folder with the embedded encoder's weights. Needs llmlingua==0.2.2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

from benchmarks.encoders.cpu import bench_cpu, cpu_name
from benchmarks.encoders.gpu import bench_gpu
from benchmarks.encoders.measuring import ROWS
from benchmarks.encoders.models import REFERENCE_NAME, make_model


def main() -> None:
    """Runs the section that fits the machine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--tiktoken", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shapes", default="embedded,xlmr-large,mbert-base")
    parser.add_argument("--words", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.update(
        TIKTOKEN_CACHE_DIR=str(options.tiktoken.resolve()), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true"
    )
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"{cpu_name()}, {options.threads} threads"
    print(f"{device}; torch {torch.__version__}; Python {platform.python_version()}; {os.cpu_count()} cores")
    text = " ".join(options.text.read_text(encoding="utf-8").split(" ")[: options.words])
    try:
        if on_gpu:
            for shape in filter(None, options.shapes.split(",")):
                folder = Path(tempfile.mkdtemp()) / REFERENCE_NAME[shape]
                bench_gpu(shape, make_model(folder, shape, options.tokenizer), text)
                shutil.rmtree(folder)
        else:
            bench_cpu("embedded", options.model, text, options.threads)
    finally:
        if options.json:
            options.json.write_text(
                json.dumps({"device": device, "torch": torch.__version__, "rows": ROWS}, indent=1)
            )


if __name__ == "__main__":
    main()
