"""The mean of several trained encoders: better than the best of them when they began alike.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time". What it gave here: benchmarks/results/training-experiments.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from compressor.training.answer_kept import KeptMeasure, mean_kept
from compressor.training.encoder import Encoder
from compressor.training.records import Answerable


def average(
    trained: Sequence[Path], out: Path, measured: Sequence[Answerable], device: torch.device
) -> dict[str, Any]:
    """Writes the mean of the folders' weights to `out`, measured like each of them; returns the notes beside
    it. All must have one shape. Raises ModelLoadFailed for a folder that cannot be read.
    """
    encoder = Encoder(trained[0])
    sums = {name: value.detach().double() for name, value in encoder.named_parameters()}
    for folder in trained[1:]:
        for name, value in Encoder(folder).named_parameters():
            sums[name] += value.detach().double()
    encoder.load_state_dict(
        {name: (value / len(trained)).float() for name, value in sums.items()}, strict=False
    )
    encoder.to(device).eval()
    kept = KeptMeasure(encoder, measured).of(encoder, device) if measured else {}
    figure = mean_kept(kept)
    notes: dict[str, Any] = json.loads((trained[0] / "training.json").read_text(encoding="utf-8"))
    notes |= {
        "averaged": [folder.name for folder in trained],
        "history": [{"epoch": 0, "losses": {}, "answer_kept": kept, "figure": figure}],
        "best": figure,
    }
    encoder.save(out, notes)
    return notes
