"""What a model folder says of itself, read from its JSON files: no torch, nothing by the folder's name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.engine.engine import Ranking
from compressor.errors import ModelLoadFailed

# Families whose first position is pad_token_id + 1, as RoBERTa's.
SHIFTED_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "longformer", "mpnet"}
)
_KEEP_NAMES = frozenset({"keep", "kept", "preserve", "preserved", "retain", "include"})
_DEFAULT_WINDOW = 512  # what LLMLingua-2's encoders were trained on
_LONGEST_WINDOW = 8192
# Context beyond a window's own words: a sentence's worth at 512 tokens for 6 % more work.
_MARGIN_SHARE, _LEAST_MARGIN, _MOST_MARGIN = 32, 8, 64
POOLING = "letters"  # what `engine.windows` makes a word's score of; another rule gives other scores


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A token classifier on disk."""

    folder: Path
    config: Mapping[str, Any]  # config.json
    family: str  # model_type
    max_tokens: int  # positions that the encoder has, special tokens included
    window_tokens: int  # its default window
    labels: int
    keep_label: int
    ranking: Ranking

    def margin(self, window_tokens: int) -> int:
        """Context tokens on each inner side of a window."""
        return max(_LEAST_MARGIN, min(_MOST_MARGIN, window_tokens // _MARGIN_SHARE))


def describe_model(folder: Path) -> ModelDescription:
    """Reads config.json. Raises ModelLoadFailed when the folder is no token classifier."""
    config = read_json(folder / "config.json")
    family = str(config.get("model_type") or "")
    if not family:
        raise ModelLoadFailed(f"{folder}: config.json names no model_type")
    architectures = config.get("architectures") or []
    if not any(str(name).endswith("ForTokenClassification") for name in architectures):
        names_given = ", ".join(map(str, architectures)) or "none"
        raise ModelLoadFailed(f"{folder}: not a token classifier (architectures: {names_given})")
    own = config.get("terse") or {}
    max_tokens = _max_tokens(family, config)
    default = _DEFAULT_WINDOW if max_tokens <= 2 * _DEFAULT_WINDOW else _LONGEST_WINDOW
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    labels = len(names) or int(config.get("num_labels") or 2)
    return ModelDescription(
        folder=folder,
        config=config,
        family=family,
        max_tokens=max_tokens,
        window_tokens=min(int(own.get("window") or default), max_tokens),
        labels=labels,
        keep_label=_keep_label(names, labels),
        ranking=_ranking(own),
    )


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. Raises ModelLoadFailed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelLoadFailed(f"{path.parent}: no {path.name} there") from None
    except (OSError, ValueError) as error:
        raise ModelLoadFailed(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise ModelLoadFailed(f"{path}: expected a JSON object")
    return value


def fingerprint_files(folder: Path, *facts: object) -> str:
    """16 hex digits over the folder's files and whatever else decides the scores."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".bin", ".onnx", ".zst", ".gz", ".xz", ".txt", ".model"}:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(repr((*facts, POOLING)).encode())
    return digest.hexdigest()[:16]


def _max_tokens(family: str, config: Mapping[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings") or _DEFAULT_WINDOW)
    if family in SHIFTED_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return min(positions, _LONGEST_WINDOW)


def _keep_label(names: Mapping[int, str], labels: int) -> int:
    """The label that says keep: by its name, else 1, LLMLingua-2's; 0 for a model with one label."""
    for index, name in names.items():
        if name.lower() in _KEEP_NAMES:
            return index
    return min(1, labels - 1)


def _ranking(own: Mapping[str, Any]) -> Ranking:
    method = own.get("rank")
    if method in (None, "", "words"):
        return Ranking()
    if method != "mean-cosine":
        raise ModelLoadFailed(f"config.json: terse.rank is {method!r}; known are 'mean-cosine' and 'words'")
    return Ranking(
        "cosine",
        str(own.get("query_prefix", "query: ")),
        str(own.get("passage_prefix", "passage: ")),
        float(own.get("lowest_cosine", 0.0)),
    )
