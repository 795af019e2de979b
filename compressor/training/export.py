"""Write a trained encoder as a folder that `Compressor.open` reads, with its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import ModelLoadFailed
from compressor.model.compact import save_compact

# The window that scores best on the CPU for its speed: training saw 128, 256 and 512.
WINDOW = 256


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: megabytes on disk, and the mean relative error of embeddings and layers."""

    folder: Path
    megabytes: float
    embedding_error: float
    layer_error: float


def export(trained: Path, out: Path, sources: Sequence[str] = (), *, ranks: bool = True) -> Exported:
    """The compact form of a trained folder: 4-bit embeddings, 8-bit layers, compressed tokenizer, model card.

    `sources` name the training data and licences for the card; `ranks` says that its embeddings were
    trained to
    compare questions with passages. Raises ModelLoadFailed.
    """
    notes = _notes(trained)
    own: dict[str, Any] = {"window": WINDOW}
    if ranks:
        own |= {"rank": "mean-cosine", "query_prefix": "query: ", "passage_prefix": "passage: "}
    out.mkdir(parents=True, exist_ok=True)
    cost = save_compact(trained, out, notes=own)
    for path in out.iterdir():
        path.chmod(0o644)
    exported = Exported(out, cost["megabytes"], cost["embedding_error"], cost["layer_error"])
    (out / "README.md").write_text(model_card(trained, exported, notes, sources), encoding="utf-8")
    return exported


def _notes(trained: Path) -> dict[str, Any]:
    path = trained / "training.json"
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelLoadFailed(f"{path}: {error}") from error
    return found


def model_card(trained: Path, exported: Exported, notes: Mapping[str, Any], sources: Sequence[str]) -> str:
    """A model card in Markdown: what it is, how it was trained, on what, and how good it measured."""
    config = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    options = notes.get("options", {})
    shape = (
        f"A keep-or-drop token classifier: {config.get('num_hidden_layers')} layers, "
        f"{config.get('hidden_size')} wide, {config.get('vocab_size'):,} pieces; "
        f"{exported.megabytes:.1f} MB. Embeddings in 4 bits (relative error "
        f"{exported.embedding_error:.4f}), layers in 8 bits ({exported.layer_error:.4f})."
    )
    lines = [f"# {trained.name}", "", shape, "", "## Training", ""]
    lines += [
        f"* {name}: {options[name]}" for name in sorted(options) if name not in ("data", "questions", "out")
    ]
    lines += ["", "## Data", "", *(f"* {source}" for source in sources or ["not stated"])]
    best = max(notes.get("history", []), key=lambda epoch: epoch["figure"], default=None)
    if best and best["answer_kept"]:
        lines += ["", "## Answer kept, by words alone, on held-back documents", ""]
        rates = list(next(iter(best["answer_kept"].values())))
        lines += [f"| source | {' | '.join(str(rate) for rate in rates)} |", f"|---{'|---' * len(rates)}|"]
        for source, by_rate in best["answer_kept"].items():
            lines.append(f"| {source} | {' | '.join(f'{value:.3f}' for value in by_rate.values())} |")
    return "\n".join(lines) + "\n"
