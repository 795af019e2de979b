"""What llmlingua's caller may ask for, and what comes back: the names and defaults of llmlingua 0.2.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from compressor.errors import InvalidOption

MAX_FORCE_TOKENS = 100  # llmlingua's max_force_token: it adds this many placeholder tokens to the vocabulary


@dataclass(frozen=True, slots=True)
class LLMLinguaOptions:
    """The options of `compress_prompt_llmlingua2`. Token counts are of cl100k_base."""

    rate: float = 0.5  # share of tokens kept in each chunk; above 1 counts as 1
    target_token: int = -1  # overrides `rate`; never verified afterwards, as in llmlingua
    use_context_level_filter: bool = False
    use_token_level_filter: bool = True
    target_context: int = -1
    context_level_rate: float = 1.0
    context_level_target_token: int = -1
    force_context_ids: tuple[int, ...] = ()
    return_word_label: bool = False
    word_sep: str = "\t\t|\t\t"
    label_sep: str = " "
    token_to_word: Literal["mean", "first"] = "mean"
    force_tokens: tuple[str, ...] = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: tuple[str, ...] = (".", "\n")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> LLMLinguaOptions:
        """Options by llmlingua's names; lists become tuples, None an empty list. Raises InvalidOption."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise InvalidOption(
                f"compat=llmlingua has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        sequences = {"force_context_ids", "force_tokens", "chunk_end_tokens"}
        plain: dict[str, Any] = {k: tuple(v or ()) if k in sequences else v for k, v in options.items()}
        made = cls(**plain)
        made.check()
        return made

    def check(self) -> None:
        """Raises InvalidOption for what llmlingua answers with an assertion or NotImplementedError."""
        if len(self.force_tokens) > MAX_FORCE_TOKENS:
            raise InvalidOption(f"at most {MAX_FORCE_TOKENS} force_tokens, not {len(self.force_tokens)}")
        if self.token_to_word not in ("mean", "first"):
            raise InvalidOption(f'token_to_word is "mean" or "first", not {self.token_to_word!r}')


@dataclass(frozen=True, slots=True)
class LLMLinguaResult:
    """The shortened contexts and llmlingua's figures, as numbers; `as_dict()` formats them its way."""

    compressed_prompt_list: tuple[str, ...]  # one for each kept context
    origin_tokens: int  # cl100k_base, summed over contexts; the "\n\n" between them is not counted
    compressed_tokens: int
    labels: tuple[tuple[str, int], ...] | None = None  # every word with 1 (kept) or 0; only when asked for
    word_sep: str = "\t\t|\t\t"
    label_sep: str = " "

    @property
    def compressed_prompt(self) -> str:
        """The kept contexts, an empty line between them."""
        return "\n\n".join(self.compressed_prompt_list)

    @property
    def ratio(self) -> float:
        """Tokens before over tokens after; 1 when nothing is left, which is llmlingua's answer too."""
        return self.origin_tokens / self.compressed_tokens if self.compressed_tokens else 1.0

    def as_dict(self) -> dict[str, Any]:
        """The dictionary that llmlingua returns: same keys, same formatted strings."""
        saving = (self.origin_tokens - self.compressed_tokens) * 0.06 / 1000  # llmlingua's fixed price
        answer: dict[str, Any] = {
            "compressed_prompt": self.compressed_prompt,
            "compressed_prompt_list": list(self.compressed_prompt_list),
            "origin_tokens": self.origin_tokens,
            "compressed_tokens": self.compressed_tokens,
            "ratio": f"{self.ratio:.1f}x",
            # llmlingua divides twice; with no token at all it divides by zero, here the rate is 100 %
            "rate": f"{1 / self.ratio * 100 if self.ratio else 100.0:.1f}%",
            "saving": f", Saving ${saving:.1f} in GPT-4.",
        }
        if self.labels is not None:
            answer["fn_labeled_original_prompt"] = self.word_sep.join(
                f"{word}{self.label_sep}{label}" for word, label in self.labels
            )
        return answer
