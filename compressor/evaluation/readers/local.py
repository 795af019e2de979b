"""A causal language model of a Hugging Face folder that answers in greedy batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from compressor.evaluation.loading import load_causal
from compressor.evaluation.readers import ReaderOptions, Reply
from compressor.halving import in_halves

MAX_SEQUENCES = 256  # in one batch: beyond it a GPU's decoding step is no cheaper a sequence
_LINE_ENDS = re.compile(r"\S[^\n]*\n")


class LineEnds(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Ends each answer of a batch behind its first line that is not blank."""

    def __init__(self, tokenizer: Any, vocabulary: int, rows: int, device: str) -> None:
        tables = _line_tables(tokenizer, vocabulary)
        self._breaks, self._ends, self._filled = (table.to(device) for table in tables)
        self._begun = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        last = input_ids[:, -1]
        done = self._ends[last] | (self._breaks[last] & self._begun)
        self._begun |= self._filled[last]
        return done


@lru_cache(maxsize=2)
def _line_tables(tokenizer: Any, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each token: whether it breaks the line, ends one that it begins, has a sign that is no space."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    texts += [""] * (vocabulary - len(texts))  # rows of the embeddings that no text has
    breaks = torch.tensor(["\n" in text for text in texts])
    ends = torch.tensor([bool(_LINE_ENDS.search(text)) for text in texts])
    return breaks, ends, torch.tensor([bool(text.strip()) for text in texts])


class LocalReader:
    """Prompts become one user turn of the model's chat template, where it has one."""

    def __init__(self, name: str, model: Any, tokenizer: Any, options: ReaderOptions) -> None:
        self.name = name
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 2048)

    @classmethod
    def open(cls, folder: str | Path, options: ReaderOptions) -> LocalReader:
        """bf16 on a GPU, fp32 on a CPU. Raises ModelLoadFailed."""
        model, tokenizer = load_causal(str(folder), options.device)
        return cls(Path(folder).name, model, tokenizer, options)

    def answer(self, prompts: Sequence[str], max_tokens: int, *, first_line: bool = False) -> list[Reply]:
        encoded = [self._encode(prompt, max_tokens) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(encoded[i]))
        replies: list[Reply] = [Reply("", 0.0)] * len(prompts)
        at = 0
        while at < len(order):
            width = max(1, len(encoded[order[at]]) + max_tokens)
            size = max(1, min(MAX_SEQUENCES, self._options.batch_tokens // width))
            group = order[at : at + size]
            said = in_halves(
                [encoded[i] for i in group], lambda part: self._generate(part, max_tokens, first_line)
            )
            for index, reply in zip(group, said, strict=True):
                replies[index] = reply
            at += len(group)
        return replies

    def _encode(self, prompt: str, max_tokens: int) -> list[int]:
        if self._tokenizer.chat_template:
            prompt = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        ids = list(self._tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
        room = self._longest - max_tokens
        # The end holds the question; a prompt that is too long loses its beginning.
        return ids[-room:] if len(ids) > room else ids

    def _generate(self, batch: Sequence[Sequence[int]], max_tokens: int, first_line: bool) -> list[Reply]:
        started = perf_counter()
        width = max(1, *(len(ids) for ids in batch))
        ids = torch.full((len(batch), width), self._pad, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, sequence in enumerate(batch):
            if sequence:
                ids[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
                mask[row, width - len(sequence) :] = 1
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=self._pad,
            eos_token_id=self._stop_ids(),
        )
        stops = [self._line_ends(len(batch))] if first_line else []
        with torch.inference_mode():
            said = self._model.generate(
                input_ids=ids.to(self._options.device),
                attention_mask=mask.to(self._options.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList(stops),
            )
        texts = self._tokenizer.batch_decode(said[:, width:].cpu(), skip_special_tokens=True)
        share = (perf_counter() - started) / len(batch)
        return [Reply(text, share, len(ids)) for text, ids in zip(texts, batch, strict=True)]

    def _stop_ids(self) -> list[int]:
        stops = {self._tokenizer.eos_token_id}
        configured = getattr(self._model.generation_config, "eos_token_id", None)
        stops |= set(configured) if isinstance(configured, list) else {configured}
        return sorted(stop for stop in stops if stop is not None)

    def _line_ends(self, rows: int) -> LineEnds:
        vocabulary = int(self._model.config.vocab_size)
        return LineEnds(self._tokenizer, vocabulary, rows, self._options.device)
