"""Teachers: any chat LLM, through litellm (a vendor, a local server) or from a Hugging Face folder on this
machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compressor.errors import InvalidOption, ModelLoadFailed
from compressor.training.instructions import Message

TEMPERATURE = 0.3  # the paper's, with top_p 1
CHARACTERS_A_TOKEN = 3.5  # for estimates before anything was sent; 4.5 in English, 1.5 in Chinese


@dataclass(frozen=True, slots=True)
class Reply:
    """A teacher's answer, or what went wrong: `trouble` is empty, "timeout", or the name of the error."""

    text: str
    trouble: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will need; `usd` is None when nobody knows the price."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class Teacher(Protocol):
    """Answers prompts, as many at once as suits it. Never raises for a prompt: the reply says what went
    wrong.
    """

    @property
    def name(self) -> str:
        """Names model and settings: equal names give replies worth sharing."""

    @property
    def at_once(self) -> int:
        """How many prompts to hand over together."""

    def replies(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        """One reply a prompt, in order."""

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """USD for so many tokens; None when unknown."""


def in_groups(teacher: Teacher, prompts: Sequence[list[Message]]) -> Iterator[tuple[int, Reply]]:
    """Place and reply of each prompt, asked in groups of the size that suits the teacher."""
    for first in range(0, len(prompts), teacher.at_once):
        group = prompts[first : first + teacher.at_once]
        yield from enumerate(teacher.replies(group), first)


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How to talk to a service. `model` is litellm's name, `openai/<name>` with `base_url` for a local
    server.
    """

    model: str
    base_url: str | None = None
    api_key: str | None = None
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_s: float = 120.0
    retries: int = 3
    most_new_tokens: int = 1024


class ServiceTeacher:
    """A model behind an API, through litellm."""

    def __init__(self, options: ServiceOptions) -> None:
        if options.concurrency < 1:
            raise InvalidOption("concurrency: expected 1 or more")
        self._options = options
        self._next_start = 0.0

    @property
    def name(self) -> str:
        return f"{self._options.model} t={TEMPERATURE} max={self._options.most_new_tokens}"

    @property
    def at_once(self) -> int:
        return self._options.concurrency * 4

    def replies(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        return asyncio.run(self._all(prompts))

    async def _all(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        gate = asyncio.Semaphore(self._options.concurrency)

        async def one(prompt: list[Message]) -> Reply:
            async with gate:
                await self._wait_for_turn()
                return await self._reply(prompt)

        return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))

    async def _wait_for_turn(self) -> None:
        """Spaces requests evenly when there is a rate limit."""
        if not self._options.requests_per_minute:
            return
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + 60 / self._options.requests_per_minute
        await asyncio.sleep(start - now)

    async def _reply(self, prompt: list[Message]) -> Reply:
        import litellm

        options = self._options
        try:
            found: Any = await litellm.acompletion(
                model=options.model,
                messages=prompt,
                temperature=TEMPERATURE,
                max_tokens=options.most_new_tokens,
                api_base=options.base_url,
                api_key=options.api_key,
                timeout=options.timeout_s,
                max_retries=options.retries,  # the client's own; litellm's num_retries needs tenacity
            )
            usage = found.usage
            text = found.choices[0].message.content or ""
            return Reply(text, "", int(usage.prompt_tokens), int(usage.completion_tokens))
        except (TimeoutError, litellm.Timeout):
            return Reply("", "timeout")
        except Exception as error:  # noqa: BLE001 - whatever one provider raises must not end a run of thousands
            return Reply("", type(error).__name__)

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        import litellm

        known = litellm.model_cost.get(self._options.model)
        if not known or "input_cost_per_token" not in known:
            return None
        per_output = float(known.get("output_cost_per_token") or 0)
        return prompt_tokens * float(known["input_cost_per_token"]) + completion_tokens * per_output


class LocalTeacher:
    """A causal LM from a Hugging Face folder, in batches on this machine's GPU (or CPU)."""

    def __init__(
        self, folder: Path, device: str = "auto", batch: int = 128, most_new_tokens: int = 320
    ) -> None:
        if not (folder / "config.json").is_file():
            raise ModelLoadFailed(f"{folder}: no config.json; expected a Hugging Face folder")
        self._folder, self._device, self._batch, self._most = folder, device, batch, most_new_tokens
        self._tokenizer: Any = None
        self._model: Any = None

    def _load(self) -> None:
        """Loads the model when it is first asked: who only counts or spreads the work needs none."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from compressor.training.grouped_attention import register

        device = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._folder, padding_side="left")
            dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
            self._model = (
                AutoModelForCausalLM.from_pretrained(
                    self._folder, dtype=dtype, attn_implementation=register()
                )
                .to(device)
                .eval()
            )
        except (OSError, ValueError) as error:
            raise ModelLoadFailed(f"{self._folder}: {error}") from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    @property
    def name(self) -> str:
        return f"{self._folder.name} greedy max={self._most}"

    @property
    def at_once(self) -> int:
        return self._batch * 2  # replies are written down by the group

    def replies(self, prompts: Sequence[list[Message]]) -> list[Reply]:
        """Greedy replies; prompts of like length share a batch. Raises ModelLoadFailed the first time."""
        if self._model is None:
            self._load()
        framed = [
            self._tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            for prompt in prompts
        ]
        found = [Reply("", "not asked")] * len(prompts)
        order = sorted(range(len(framed)), key=lambda at: -len(framed[at]))
        for first in range(0, len(order), self._batch):
            chosen = order[first : first + self._batch]
            for at, reply in zip(chosen, self._fitting([framed[at] for at in chosen]), strict=True):
                found[at] = reply
        return found

    def _fitting(self, framed: list[str]) -> list[Reply]:
        """Replies in batches that the device has memory for: others may be at work there."""
        import torch

        from compressor.halving import in_halves

        def alone_or_together(prompts: Sequence[str]) -> list[Reply]:
            try:
                return self._batch_replies(list(prompts))
            except torch.OutOfMemoryError as error:
                if len(prompts) > 1:
                    raise
                return [Reply("", type(error).__name__)]

        return in_halves(framed, alone_or_together)

    def _batch_replies(self, framed: list[str]) -> list[Reply]:
        import torch

        inputs = self._tokenizer(framed, return_tensors="pt", padding=True, add_special_tokens=False).to(
            self._model.device
        )
        with torch.inference_mode():
            outputs = self._model.generate(
                **inputs,
                max_new_tokens=self._most,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        fresh = outputs[:, inputs["input_ids"].shape[1] :]
        lengths = (fresh != self._tokenizer.pad_token_id).sum(1).tolist()
        asked = inputs["attention_mask"].sum(1).tolist()
        texts = self._tokenizer.batch_decode(fresh, skip_special_tokens=True)
        return [Reply(text, "", p, c) for text, p, c in zip(texts, asked, lengths, strict=True)]

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return 0.0


def estimate(teacher: Teacher, prompts: Sequence[list[Message]], answer_share: float = 0.5) -> Estimate:
    """What the prompts will need, from their length alone; answers are taken to be `answer_share` of the
    last message.
    """
    asked = sum(len(message["content"]) for prompt in prompts for message in prompt)
    answered = sum(len(prompt[-1]["content"]) for prompt in prompts) * answer_share
    prompt_tokens, completion_tokens = round(asked / CHARACTERS_A_TOKEN), round(answered / CHARACTERS_A_TOKEN)
    return Estimate(
        len(prompts), prompt_tokens, completion_tokens, teacher.price(prompt_tokens, completion_tokens)
    )
