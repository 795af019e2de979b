"""What an encoder is, read from its files."""

from __future__ import annotations

import json
import lzma
import struct
from pathlib import Path
from typing import Any


def inspect_model(model: str = "default") -> dict[str, Any]:
    """The facts of a model folder by name, without loading its weights. Raises ModelLoadFailed.

    `model` is "default", a folder, or a hub name that is on this disk.
    """
    from compressor.model.description import describe_model
    from compressor.model.loading import find_folder

    description = describe_model(find_folder(model))
    config = description.config
    weights = sorted(
        path
        for pattern in ("*.safetensors", "*.onnx", "*.bin")
        for path in description.folder.glob(pattern)
        if path.is_file()
    )
    facts: dict[str, Any] = {
        "folder": str(description.folder),
        "family": description.family,
        "layers": config.get("num_hidden_layers") or config.get("n_layers"),
        "hidden_size": config.get("hidden_size") or config.get("dim"),
        "vocabulary": config.get("vocab_size"),
        "parameters": _parameters(weights),
        "window_tokens": description.window_tokens,
        "max_tokens": description.max_tokens,
        "labels": description.labels,
        "keep_label": description.keep_label,
        "ranking": description.ranking.method,
        "weights": {path.name: path.stat().st_size for path in weights},
        "tokenizer": _tokenizer(description.folder),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _parameters(weights: list[Path]) -> int | None:
    """Values in the safetensors files, from their headers."""
    total = 0
    for path in weights:
        if path.suffix != ".safetensors":
            continue
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= dimension
                total += size
    return total or None


def _tokenizer(folder: Path) -> str | None:
    """The kind of model in tokenizer.json: Unigram, WordPiece, BPE."""
    plain, packed = folder / "tokenizer.json", folder / "tokenizer.json.xz"
    if plain.is_file():
        text = plain.read_text(encoding="utf-8")
    elif packed.is_file():
        text = lzma.decompress(packed.read_bytes()).decode()
    else:
        return None
    kind = json.loads(text).get("model", {}).get("type")
    return str(kind) if kind else "unknown"
