"""The encoder and tokenizer of compat mode, opened the way llmlingua opens them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from compressor.compat.options import MAX_FORCE_TOKENS
from compressor.compat.pieces import PLACEHOLDER, Family, PieceRules
from compressor.compat.words import ScoredChunk
from compressor.errors import ModelLoadFailed, ScoringFailed
from compressor.model.compact import is_compact
from compressor.model.loading import find_folder

WINDOW = 512  # llmlingua's max_seq_len, special tokens included
BATCH = 50  # llmlingua's max_batch_size
SEED = 42  # llmlingua seeds everything with 42 and then draws the placeholders' embeddings
# llmlingua builds its data set without the model's name, so that every family gets multilingual BERT's
# special tokens; XLM-R's vocabulary has none of them and reads <unk>. Published results include this.
FIRST, LAST, PAD = "[CLS]", "[SEP]", "[PAD]"


def piece_family(tokenizer: Any) -> Family:
    """`wordpiece` or `metaspace`, by what the tokenizer is. Raises ModelLoadFailed for anything else."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelLoadFailed("compat=llmlingua needs a fast tokenizer (tokenizer.json)")
    kind = type(backend.model).__name__
    if kind == "WordPiece":
        return "wordpiece"
    if kind == "Unigram" or any(piece.startswith("▁") for piece in tokenizer.tokenize("a b")):
        return "metaspace"
    raise ModelLoadFailed(
        f"compat=llmlingua knows WordPiece (multilingual BERT) and SentencePiece (XLM-R) pieces, not {kind}"
    )


class LLMLinguaModel:
    """A token classifier of any folder, scored in llmlingua's windows. Safe to call from several threads."""

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._lock = threading.Lock()  # fast tokenizers and the late embedding resize are not thread-safe
        self.family = piece_family(tokenizer)
        self.special = self._special_tokens()
        tokenizer.add_tokens([PLACEHOLDER.format(i) for i in range(MAX_FORCE_TOKENS)], special_tokens=True)

    @classmethod
    def open(cls, folder: str | Path, device: str = "cpu") -> LLMLinguaModel:
        """The token classifier in `folder` (or of a hub name on disk, or "default"), in float32.

        Raises ModelLoadFailed.
        """
        path = find_folder(str(folder))
        if is_compact(path):
            from compressor.compat.unpacked import read_unpacked

            model, tokenizer = read_unpacked(path)
            return cls(model.to(device), tokenizer, device)
        if not (path / "tokenizer_config.json").is_file():
            # transformers would then guess a tokenizer class from the model's type, and may guess wrong.
            raise ModelLoadFailed(f"{folder}: compat=llmlingua needs the folder's tokenizer_config.json")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
            model = AutoModelForTokenClassification.from_pretrained(
                str(path), dtype=torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelLoadFailed(f"{folder}: no token classifier that can be loaded: {error}") from error
        if model.config.num_labels != 2:
            raise ModelLoadFailed(f"{folder}: {model.config.num_labels} labels; drop and keep are two")
        return cls(model.to(device).eval(), tokenizer, device)

    def rules(self, force_tokens: Sequence[str]) -> PieceRules:
        """The piece rules for these force tokens: those of several pieces get a placeholder."""
        with self._lock:
            stand_ins = {
                token: PLACEHOLDER.format(i)
                for i, token in enumerate(force_tokens)
                if len(self._tokenizer.tokenize(token)) != 1
            }
        return PieceRules(self.family, self.special, tuple(force_tokens), tuple(stand_ins.items()))

    def pieces(self, text: str) -> list[str]:
        with self._lock:
            return list(self._tokenizer.tokenize(text))

    def text(self, pieces: Sequence[str]) -> str:
        """Pieces joined by the tokenizer's decoder; this is where llmlingua loses white space."""
        with self._lock:
            return str(self._tokenizer.convert_tokens_to_string(list(pieces)))

    def score(self, chunks: Sequence[str]) -> list[ScoredChunk]:
        """P(keep) of every piece of every chunk. Raises ScoringFailed when the model gives no numbers."""
        with self._lock:
            encoded = [self._encode(chunk) for chunk in chunks]
            self._grow_embeddings(max((max(ids) for ids, _ in encoded), default=0))
            scored: list[ScoredChunk] = []
            for at in range(0, len(encoded), BATCH):
                scored.extend(self._score_batch(encoded[at : at + BATCH]))
        return scored

    def _special_tokens(self) -> frozenset[str]:
        t = self._tokenizer
        # llmlingua replaces the pad token by eos when its id is 0, which it takes for "none".
        pad = (
            t.convert_ids_to_tokens(self._model.config.pad_token_id)
            if self._model.config.pad_token_id
            else None
        )
        named = (t.bos_token, t.eos_token, t.unk_token, t.sep_token, t.cls_token, t.mask_token, pad)
        return frozenset(token for token in named if token is not None)

    def _encode(self, chunk: str) -> tuple[list[int], list[bool]]:
        pieces = [FIRST, *self._tokenizer.tokenize(chunk), LAST][:WINDOW]
        return self._tokenizer.convert_tokens_to_ids(pieces), [piece != PAD for piece in pieces]

    def _grow_embeddings(self, highest_id: int) -> None:
        """Rows for the placeholders, drawn as llmlingua draws them, the first time that one is read."""
        if highest_id < self._model.get_input_embeddings().num_embeddings:
            return
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            self._model.resize_token_embeddings(len(self._tokenizer))

    def _score_batch(self, batch: Sequence[tuple[list[int], list[bool]]]) -> list[ScoredChunk]:
        width = max(len(ids) for ids, _ in batch)
        # Padding is masked and comes last, so its id does not matter, nor where XLM-R counts positions.
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.bool)
        for row, (piece_ids, visible) in enumerate(batch):
            ids[row, : len(piece_ids)] = torch.tensor(piece_ids)
            mask[row, : len(visible)] = torch.tensor(visible)
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
            keep = torch.softmax(logits, dim=-1)[:, :, 1].float().cpu().numpy()
        if not np.isfinite(keep[mask.numpy()]).all():
            raise ScoringFailed("the model gave NaN scores")
        scored = []
        for row in range(len(batch)):
            shown = mask[row].numpy()
            pieces = self._tokenizer.convert_ids_to_tokens(ids[row][mask[row]].tolist())
            scored.append(ScoredChunk(tuple(pieces), keep[row][shown]))
        return scored
