"""What a caller of `Compressor` may ask for, and the checks of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from compressor.errors import InvalidBudget, InvalidOption, InvalidText
from compressor.text.choice import Unit
from compressor.text.kinds import KINDS

DEFAULT_KEEP = 0.5


class CompressOptions(TypedDict, total=False):
    """What `compress` and its kin may be told. All optional."""

    keep: float | None  # share of the tokens that stays, above 0 and up to 1; default 0.5
    target_tokens: int | None  # instead of keep: at most so many tokens
    tokenizer: str | None  # whose tokens: an encoding, a model's name, or a tokenizer folder
    question: str | None  # what the text will be asked; the sentences that bear on it stay
    protect: Sequence[str] | None  # kinds of spans that always stay; default shapes.DEFAULT_PROTECT
    force_tokens: Sequence[str]  # strings that always stay, "\n" among them
    kind: str  # "auto" (default) or one of compressor.text.kinds.KINDS
    unit: Unit  # "auto" (default), "words" or "sentences"
    explain: bool  # fill `.decisions`: every word, its score, and why it stayed or went
    compat: Literal["llmlingua"] | None  # the words of llmlingua 0.2.2
    llmlingua: Mapping[str, Any]  # its options, with compat


def check_options(options: CompressOptions) -> None:
    """Raises InvalidOption or InvalidBudget for what cannot be meant."""
    if unknown := sorted(set(options) - set(CompressOptions.__annotations__)):
        raise InvalidOption(f"no such option: {', '.join(unknown)}")
    for name, value in (("protect", options.get("protect")), ("force_tokens", options.get("force_tokens"))):
        if isinstance(value, str):
            raise InvalidOption(f"{name}: expected a list of strings, got the string {value!r}")
    if (kind := options.get("kind", "auto")) not in {"auto", *KINDS}:
        raise InvalidOption(f"kind: expected auto or one of {', '.join(KINDS)}, got {kind!r}")
    if (unit := options.get("unit", "auto")) not in ("auto", "words", "sentences"):
        raise InvalidOption(f"unit: expected auto, words or sentences, got {unit!r}")
    if (compat := options.get("compat")) not in (None, "llmlingua"):
        raise InvalidOption(f'compat: expected "llmlingua", got {compat!r}')
    if options.get("llmlingua") and compat is None:
        raise InvalidOption('llmlingua: these options need compat="llmlingua"')
    budget_of(options)


def budget_of(options: CompressOptions) -> tuple[float, int | None]:
    """The share to keep, and the target in tokens when one was given (it then decides)."""
    keep, target = options.get("keep"), options.get("target_tokens")
    if keep is not None and target is not None:
        raise InvalidOption("keep and target_tokens exclude each other; give one")
    if target is not None and (not isinstance(target, int) or isinstance(target, bool) or target < 1):
        raise InvalidBudget(f"target_tokens: expected a whole number of at least 1, got {target!r}")
    if keep is None:
        return DEFAULT_KEEP, target
    return checked_share("keep", keep), target


def checked_share(name: str, share: object) -> float:
    """A share of tokens. Raises InvalidBudget unless above 0 and at most 1."""
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not math.isfinite(share) or not 0 < share <= 1:  # type: ignore[arg-type,operator]
        raise InvalidBudget(f"{name}: expected a share above 0 and up to 1, got {share!r}")
    return float(share)  # type: ignore[arg-type]


def tokens_of_share(share: float, tokens: int) -> int:
    """How many of so many tokens a share is; rounded down, since a budget is never exceeded."""
    return tokens if share >= 1 else math.floor(share * tokens + 1e-9)


def check_text(text: object) -> None:
    """Raises InvalidText for what cannot be tokenised, naming the character."""
    if not isinstance(text, str):
        raise InvalidText(f"expected a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(f"unpaired surrogate at character {error.start}") from None
