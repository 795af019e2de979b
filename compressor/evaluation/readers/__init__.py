"""The LLM that reads the shortened texts: a Hugging Face folder here, or any provider of litellm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from compressor.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Reply:
    """What a reader said."""

    text: str
    seconds: float  # of this prompt; of a batch, its share
    prompt_tokens: int = 0
    error: str = ""  # when the reader failed; the text is then empty


class Reader(Protocol):
    """Answers prompts greedily."""

    @property
    def name(self) -> str:
        """For the report: the folder's name or the provider's model."""

    def answer(self, prompts: Sequence[str], max_tokens: int, *, first_line: bool = False) -> list[Reply]:
        """One reply a prompt, in order. A prompt that fails gets a reply with `error`.

        With `first_line` nobody looks behind the first line that is not blank, so a reader may stop there.
        """


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How a reader is opened."""

    device: str = "cpu"
    batch_tokens: int = 65_536  # padded prompt tokens that are read at once
    base_url: str = ""  # of an OpenAI-compatible server, for `litellm:openai/NAME`
    api_key: str = ""
    concurrency: int = 8  # requests in flight to a provider


def open_reader(spec: str, options: ReaderOptions) -> Reader:
    """`hf:FOLDER` or `litellm:MODEL`. Raises InvalidOption, ModelLoadFailed."""
    kind, _, rest = spec.partition(":")
    if kind == "hf" and rest:
        from compressor.evaluation.readers.local import LocalReader

        return LocalReader.open(rest, options)
    if kind == "litellm" and rest:
        from compressor.evaluation.readers.remote import RemoteReader

        return RemoteReader(rest, options)
    raise InvalidOption(f"reader {spec!r}: hf:FOLDER or litellm:MODEL is needed")
