"""Make an encoder smaller before it is trained: fewer layers, fewer vocabulary pieces.

Both work on a Hugging Face folder of the BERT family with a Unigram `tokenizer.json`. Pieces are cut in the
tokenizer and in the embedding matrix together; a text that used a cut piece is spelt with shorter ones.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from compressor.errors import InvalidOption, ModelLoadFailed

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
LAYER = re.compile(r"(.*encoder\.layer\.)(\d+)(\..*)")
COUNTED_AT_ONCE = 256  # texts tokenised in one call: enough to fill the tokenizer's threads
SEEN = 5  # uses that make a piece worth its row; a rarer one may be a name or a typing error
# Scripts of the languages that the shipped encoder is meant for; a longer piece of another script is cut
# first.
SCRIPTS = (
    "LATIN",
    "CYRILLIC",
    "ARABIC",
    "HANGUL",
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "DEVANAGARI",
    "THAI",
    "GREEK",
)


def spread_layers(have: int, want: int) -> tuple[int, ...]:
    """`want` of `have` layers, the first `want` ones: fine-tuned, they lose least (study, second
    measurement).
    """
    if not 1 <= want <= have:
        raise InvalidOption(f"cannot keep {want} of {have} layers")
    return tuple(range(want))


def layers_of(folder: Path) -> int:
    """How many layers the encoder has. Raises ModelLoadFailed."""
    return int(_config(folder)["num_hidden_layers"])


def cut_layers(folder: Path, out: Path, keep: Sequence[int]) -> Path:
    """Writes the encoder with only the layers `keep`, renumbered in that order."""
    config = _config(folder)
    place = {old: new for new, old in enumerate(keep)}
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        found = LAYER.fullmatch(name)
        if found is None:
            state[name] = tensor
        elif int(found[2]) in place:
            state[f"{found[1]}{place[int(found[2])]}{found[3]}"] = tensor
    config["num_hidden_layers"] = len(keep)
    return _write(out, state, config, _tokenizer(folder), folder)


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.int64]:
    """How often each piece is used in the texts, shape [vocabulary]."""
    counts = np.zeros(tokenizer.get_vocab_size(), np.int64)
    waiting = iter(texts)
    while batch := list(islice(waiting, COUNTED_AT_ONCE)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            np.add.at(counts, encoding.ids, 1)
    return counts


def choose_pieces(
    vocabulary: Sequence[tuple[str, float]], special: Iterable[int], counts: NDArray[np.int64], size: int
) -> list[int]:
    """Ids of the `size` pieces to keep, ascending, by these rules in order:

    special pieces; every single character, so that no character becomes unknown; pieces seen at least SEEN
    times;
    then the likeliest pieces (by the tokenizer's own score) written in SCRIPTS, seen or not.
    """
    kept = set(special)
    kept.update(at for at, (piece, _) in enumerate(vocabulary) if len(piece.lstrip("▁")) <= 1)
    seen = [int(at) for at in np.argsort(-counts, kind="stable") if counts[at] >= SEEN]
    likely = sorted(range(len(vocabulary)), key=lambda at: -vocabulary[at][1])
    wanted = [at for at in likely if _is_wanted(vocabulary[at][0])]
    for at in (*seen, *wanted):
        if len(kept) >= size:
            break
        kept.add(at)
    return sorted(kept)


def _is_wanted(piece: str) -> bool:
    letters = [character for character in piece if character.isalpha()]
    return all(unicodedata.name(letter, "").startswith(SCRIPTS) for letter in letters)


def cut_vocabulary(folder: Path, out: Path, texts: Iterable[str], size: int) -> Path:
    """Writes the encoder with about `size` pieces, chosen by their use in `texts` (see choose_pieces)."""
    tokenizer = _tokenizer(folder)
    model = tokenizer["model"]
    if model.get("type") != "Unigram":
        raise InvalidOption(f"{folder}: only Unigram tokenizers can be cut, this one is {model.get('type')}")
    counts = count_pieces(Tokenizer.from_file(str(folder / "tokenizer.json")), texts)
    special = {int(token["id"]) for token in tokenizer["added_tokens"]} | {int(model["unk_id"])}
    vocabulary = [(piece, score) for piece, score in model["vocab"]]
    special = {at for at in special if at < len(vocabulary)} | set(
        range(4)
    )  # <s> <pad> </s> <unk> keep their ids
    kept = choose_pieces(vocabulary, special, counts, size)
    place = {old: new for new, old in enumerate(kept)}
    extra = [token for token in tokenizer["added_tokens"] if token["id"] >= len(vocabulary)]
    place |= {int(token["id"]): len(kept) + at for at, token in enumerate(extra)}
    rows = [*kept, *(int(token["id"]) for token in extra)]
    _renumber(tokenizer, [model["vocab"][at] for at in kept], place)
    state = load_file(folder / "model.safetensors")
    name = next((key for key in state if key.endswith(WORD_EMBEDDINGS)), None)
    if name is None:
        raise ModelLoadFailed(f"{folder}: no {WORD_EMBEDDINGS}")
    state[name] = state[name][torch.tensor(rows)].contiguous()
    config = _config(folder) | {"vocab_size": len(rows)}
    return _write(out, state, config, tokenizer, folder)


def _renumber(tokenizer: dict[str, Any], vocabulary: list[Any], place: dict[int, int]) -> None:
    """Puts the shorter vocabulary into `tokenizer` and every id in it to its new place."""
    tokenizer["model"]["vocab"] = vocabulary
    tokenizer["model"]["unk_id"] = place[int(tokenizer["model"]["unk_id"])]
    for token in tokenizer["added_tokens"]:
        token["id"] = place[int(token["id"])]
    processor = tokenizer.get("post_processor") or {}
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [place[int(at)] for at in token["ids"]]


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelLoadFailed(f"{folder}: {error}") from error
    return found


def _tokenizer(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelLoadFailed(
            f"{folder}: an encoder without a fast tokenizer cannot be used: {error}"
        ) from error
    return found


def _write(
    out: Path, state: dict[str, torch.Tensor], config: dict[str, Any], tokenizer: dict[str, Any], source: Path
) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    settings = source / "tokenizer_config.json"
    if settings.exists():
        (out / settings.name).write_bytes(settings.read_bytes())
    (out / "config.json").write_text(
        json.dumps(config, indent=1), encoding="utf-8"
    )  # last: the folder is whole
    return out
