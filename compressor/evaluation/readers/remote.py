"""Any provider that litellm speaks to, or an OpenAI-compatible server of your own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from compressor.evaluation.readers import ReaderOptions, Reply


class RemoteReader:
    """One request a prompt, several in flight. A request that fails is a reply with an error, not an end."""

    def __init__(self, model: str, options: ReaderOptions) -> None:
        self.name = model
        self._options = options

    def answer(self, prompts: Sequence[str], max_tokens: int, *, first_line: bool = False) -> list[Reply]:
        with ThreadPoolExecutor(self._options.concurrency, thread_name_prefix="terse-reader") as threads:
            return list(threads.map(lambda prompt: self._ask(prompt, max_tokens), prompts))

    def _ask(self, prompt: str, max_tokens: int) -> Reply:
        import litellm  # lazily: it takes seconds to import

        extra: dict[str, Any] = {}
        if self._options.base_url:
            extra["api_base"] = self._options.base_url
        if self._options.api_key:
            extra["api_key"] = self._options.api_key
        started = perf_counter()
        try:
            said = litellm.completion(
                model=self.name,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=max_tokens,
                temperature=0.0,
                max_retries=2,  # num_retries would need tenacity
                **extra,
            )
        except Exception as error:  # noqa: BLE001 - litellm raises each provider's own kinds
            return Reply("", perf_counter() - started, error=f"{type(error).__name__}: {error}")
        usage = getattr(said, "usage", None)
        text = said.choices[0].message.content or ""
        return Reply(text, perf_counter() - started, getattr(usage, "prompt_tokens", 0) or 0)
