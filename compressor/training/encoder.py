"""The encoder as training sees it: one pass gives keep scores for tokens and an embedding for the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from compressor.errors import ModelLoadFailed
from compressor.training.chunks import cut
from compressor.training.dataset import SpecialIds

TOKENIZER_SETTINGS = "tokenizer_config.json"
SCORED_TOKENS = 32_768  # in one batch when scoring: fills a GPU, fits in 2 GB of memory on a CPU


class Encoder(nn.Module):
    """A Hugging Face token classifier with two labels, drop (0) and keep (1)."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForTokenClassification

        super().__init__()
        labels = {0: "drop", 1: "keep"}
        try:
            self.model = AutoModelForTokenClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                id2label=labels,
                label2id={name: at for at, name in labels.items()},
            )
        except (OSError, ValueError) as error:
            raise ModelLoadFailed(f"{folder}: {error}") from error
        self.tokenizer = open_tokenizer(folder)
        self.special = special_ids(folder, self.tokenizer)
        settings = folder / TOKENIZER_SETTINGS
        self._tokenizer_settings = settings.read_bytes() if settings.exists() else b""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep score of each token (logit, [rows, tokens]) and mean embedding of each row, [rows, width]."""
        trunk = getattr(self.model, self.model.base_model_prefix)
        hidden = trunk(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = self.model.classifier(self.model.dropout(hidden)).float()
        shares = mask[..., None].to(hidden.dtype)
        pooled = (hidden * shares).sum(1) / shares.sum(1)
        return logits[..., 1] - logits[..., 0], pooled.float()

    def freeze_embeddings(self) -> None:
        """Leaves the word embeddings as they are, so that their 4-bit form stays exact."""
        self.model.get_input_embeddings().weight.requires_grad_(False)

    def save(self, folder: Path, notes: dict[str, Any]) -> None:
        """A Hugging Face folder with `training.json` beside the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        if self._tokenizer_settings:  # transformers and compat mode take the special tokens' names from there
            (folder / TOKENIZER_SETTINGS).write_bytes(self._tokenizer_settings)
        (folder / "training.json").write_text(json.dumps(notes, indent=1, default=str), encoding="utf-8")


def open_tokenizer(folder: Path) -> Tokenizer:
    """The folder's fast tokenizer, without padding or truncation. Raises ModelLoadFailed when it has none."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelLoadFailed(
            f"{folder}: no tokenizer.json; an encoder without a fast tokenizer cannot be used"
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def any_tokenizer(folder: Path | None) -> Tokenizer:
    """The tokenizer of a Hugging Face or an exported folder; the embedded encoder's for None."""
    from compressor.model.compact import is_compact, read_tokenizer
    from compressor.model.loading import find_folder

    chosen = folder or find_folder("default")
    return Tokenizer.from_str(read_tokenizer(chosen)) if is_compact(chosen) else open_tokenizer(chosen)


def special_ids(folder: Path, tokenizer: Tokenizer) -> SpecialIds:
    """Ids that frame an input, read off the tokenizer's own framing of an empty text."""
    framed = tokenizer.encode("").ids
    if len(framed) != 2:
        raise ModelLoadFailed(f"{folder}: expected two special tokens around a text, found {len(framed)}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return SpecialIds(framed[0], framed[1], int(config.get("pad_token_id") or 0))


def score_texts(
    encoder: Encoder,
    texts: Sequence[str],
    device: torch.device,
    window: int = 256,
    questions: Sequence[str] = (),
) -> Iterator[NDArray[np.float32]]:
    """P(keep) of every character of each text, in order: that of its token, 0 on characters without one.

    With `questions` (one a text), scores hold for that question.
    """
    pieces = cut_texts(encoder, texts, window, questions)
    yield from score_pieces(encoder, pieces, [len(text) for text in texts], device)


def cut_texts(
    encoder: Encoder, texts: Sequence[str], window: int, questions: Sequence[str] = ()
) -> list[Piece]:
    """The windows that the texts are read in, tokenised: worth keeping when texts are scored again."""
    return [
        piece
        for number, text in enumerate(texts)
        for piece in _pieces(encoder, number, text, window, questions[number] if questions else "")
    ]


def score_pieces(
    encoder: Encoder, pieces: Sequence[Piece], sizes: Sequence[int], device: torch.device
) -> list[NDArray[np.float32]]:
    """P(keep) of every character of the texts that `pieces` were cut from; `sizes` are their lengths."""
    found = [np.zeros(size, np.float32) for size in sizes]
    for batch in _batches(pieces):
        longest = max(len(piece.ids) for piece in batch)
        ids = np.full((len(batch), longest), encoder.special.pad, np.int64)
        mask = np.zeros_like(ids)
        for row, piece in enumerate(batch):
            ids[row, : len(piece.ids)] = piece.ids
            mask[row, : len(piece.ids)] = 1
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
            score, _ = encoder(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        for piece, values in zip(batch, torch.sigmoid(score).cpu().numpy(), strict=True):
            lengths = piece.ends - piece.starts
            behind = np.cumsum(lengths)
            places = np.arange(behind[-1]) + np.repeat(piece.starts - behind + lengths, lengths)
            own = values[piece.head : piece.head + len(piece.starts)]
            found[piece.text][places] = np.repeat(own, lengths)
    return found


@dataclass(frozen=True, slots=True)
class Piece:
    """A window of one text: its framed ids, where its own tokens begin in them, and their characters."""

    text: int
    ids: list[int]
    head: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def _pieces(encoder: Encoder, number: int, text: str, window: int, question: str) -> Iterator[Piece]:
    special = encoder.special
    head = [special.first]
    if question:
        asked = encoder.tokenizer.encode(question, add_special_tokens=False).ids
        head = [special.first, *asked, special.last, special.last]
    encoding = encoder.tokenizer.encode(text, add_special_tokens=False)
    all_ids, offsets = encoding.ids, encoding.offsets
    starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    for start, end in cut(text, offsets, max(8, window - len(head) - 1)):
        first, last = np.searchsorted(ends, [start, end], side="right")
        framed = [*head, *all_ids[first:last], special.last]
        yield Piece(number, framed, len(head), starts[first:last], ends[first:last])


def _batches(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces of like length together, at most SCORED_TOKENS a batch."""
    batch: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece.ids)):
        if batch and len(piece.ids) * (len(batch) + 1) > SCORED_TOKENS:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch
