"""Surprisal of tokens under any causal language model of a Hugging Face folder: what LLMLingua,
LongLLMLingua and Selective-Context score with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from compressor.errors import ModelLoadFailed
from compressor.evaluation.loading import load_causal
from compressor.halving import in_halves

BATCH_TOKENS = 16_384  # padded tokens in one forward pass; 1.5B parameters in bf16 then need about 10 GB
LOGIT_ROWS = 2_048  # rows of the vocabulary-wide logits that exist at once (0.6 GB at 151k entries in bf16)
Surprisals = npt.NDArray[np.float32]


class CausalModel:
    """A causal language model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self._model = model
        self.tokenizer = tokenizer
        self._device = device
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise ModelLoadFailed("the causal model's tokenizer has neither a first nor a last token")
        self._first = int(first)
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 2048)

    @classmethod
    def open(cls, folder: str | Path, device: str = "cpu") -> CausalModel:
        """bf16 on a GPU, fp32 on a CPU. Raises ModelLoadFailed."""
        model, tokenizer = load_causal(str(folder), device)
        return cls(model, tokenizer, device)

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def surprisals(self, sequences: Sequence[Sequence[int]]) -> list[Surprisals]:
        """-log p (nats) of every token given the ones before it, one array a sequence.

        Each sequence is read behind the first token (or, without one, the last). What is longer than the
        model reads is scored in windows that overlap by half.
        """
        windows: list[tuple[int, int, Sequence[int]]] = []
        for owner, ids in enumerate(sequences):
            room = self._longest - 1
            for start in range(0, max(1, len(ids)), room // 2 if len(ids) > room else room):
                windows.append((owner, start, ids[start : start + room]))
                if start + room >= len(ids):
                    break
        answer = [np.zeros(len(ids), dtype=np.float32) for ids in sequences]
        done = [0] * len(sequences)
        scored = self._score_windows([ids for _, _, ids in windows])
        for (owner, start, ids), losses in zip(windows, scored, strict=True):
            new = max(done[owner], start)
            answer[owner][new : start + len(ids)] = losses[new - start :]
            done[owner] = start + len(ids)
        return answer

    def _score_windows(self, windows: Sequence[Sequence[int]]) -> list[Surprisals]:
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
        answer: list[Surprisals] = [np.zeros(0, dtype=np.float32)] * len(windows)
        at = 0
        while at < len(order):
            width = len(windows[order[at]]) + 1
            group = order[at : at + max(1, BATCH_TOKENS // width)]
            scored = in_halves([windows[i] for i in group], self._score_batch)
            for index, losses in zip(group, scored, strict=True):
                answer[index] = losses
            at += len(group)
        return answer

    def _score_batch(self, batch: Sequence[Sequence[int]]) -> list[Surprisals]:
        width = max(len(ids) for ids in batch) + 1
        ids = torch.full((len(batch), width), self._first, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, sequence in enumerate(batch):
            ids[row, 1 : len(sequence) + 1] = torch.tensor(sequence, dtype=torch.long)
            mask[row, : len(sequence) + 1] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        losses = torch.zeros((len(batch), width - 1), dtype=torch.float32, device=self._device)
        with torch.inference_mode():
            hidden = self._model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
            head = self._model.get_output_embeddings()
            flat, targets = hidden.reshape(-1, hidden.shape[-1]), ids[:, 1:].reshape(-1)
            parts = [
                torch.nn.functional.cross_entropy(
                    head(flat[i : i + LOGIT_ROWS]).float(), targets[i : i + LOGIT_ROWS], reduction="none"
                )
                for i in range(0, len(flat), LOGIT_ROWS)
            ]
            if parts:
                losses = torch.cat(parts).reshape(losses.shape)
        table = losses.cpu().numpy()
        return [table[row, : len(sequence)] for row, sequence in enumerate(batch)]
