"""llmlingua 0.2.2's `compress_prompt_llmlingua2`, step by step, with one encoder pass where it makes two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.compat.options import LLMLinguaOptions, LLMLinguaResult
from compressor.compat.pieces import PieceRules, chunk_pieces
from compressor.compat.words import (
    PLAIN_WORDS,
    ChunkWords,
    CountTokens,
    Probability,
    choose_words,
    merge_pieces,
)
from compressor.errors import InvalidBudget, InvalidOption

if TYPE_CHECKING:
    from compressor.compat.model import LLMLinguaModel

LONGEST_WORD = 64  # characters; longer texts are counted anew, so that whole documents are not held
CONTENT_PIECES = 510  # the 512 of the encoder's window without its two special tokens


@dataclass(frozen=True, slots=True)
class PreparedContext:
    """One context, chunked and scored."""

    text: str
    tokens: int  # cl100k_base
    chunks: tuple[str, ...]  # force tokens of several pieces are placeholders in here
    words: tuple[ChunkWords, ...]  # one for each chunk; empty when everything is kept and nothing was scored


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that the encoder has to say; `select` may be called on it at many rates."""

    model: LLMLinguaModel
    rules: PieceRules
    contexts: tuple[PreparedContext, ...]
    count: CountTokens


def compress_llmlingua(
    model: str | Path | LLMLinguaModel, context: str | Sequence[str], **options: Any
) -> LLMLinguaResult:
    """Shortens `context` to the words that llmlingua 0.2.2 keeps with the same weights and options.

    `model` is a folder or hub name of a token classifier (multilingual BERT or XLM-R kind), or an opened
    `compressor.compat.model.LLMLinguaModel`; opening takes seconds, so keep one. Options are llmlingua's, by
    name (`LLMLinguaOptions`). Raises ModelLoadFailed, InvalidOption, InvalidBudget, ScoringFailed. Where
    llmlingua crashes (an empty text, say) the sensible answer comes back; docs/llmlingua.md lists the cases.
    """
    chosen = LLMLinguaOptions.of(options)
    contexts = [context] if isinstance(context, str) else list(context)
    return select(prepare(opened(model), contexts, chosen), chosen)


def opened(model: str | Path | LLMLinguaModel) -> LLMLinguaModel:
    """The model itself, or the one in the folder."""
    if isinstance(model, (str, Path)):
        from compressor.compat.model import LLMLinguaModel

        return LLMLinguaModel.open(model)
    return model


def cl100k_counter() -> CountTokens:
    """Counts cl100k_base tokens and remembers words, which repeat."""
    from compressor.text.tokens import counter_for

    counter = counter_for("cl100k_base")
    seen: dict[str, int] = {}

    def count(text: str) -> int:
        if len(text) > LONGEST_WORD:
            return counter.count(text)
        if text not in seen:
            seen[text] = counter.count(text)
        return seen[text]

    return count


def prepare(model: LLMLinguaModel, contexts: Sequence[str], options: LLMLinguaOptions) -> Prepared:
    """Chunks and scores the contexts, one encoder pass over all of them."""
    count = cl100k_counter()
    rules = model.rules(options.force_tokens)
    ends = set(options.chunk_end_tokens)
    ends |= {placeholder for original, placeholder in rules.stand_ins if original in ends}
    chunked = []
    for text in contexts:
        pieces = model.pieces(rules.hide(text))
        spans = chunk_pieces(pieces, frozenset(ends), CONTENT_PIECES)
        chunked.append([model.text(pieces[start:stop]) for start, stop in spans])
    scored = iter(model.score([chunk for chunks in chunked for chunk in chunks]))
    prepared = tuple(
        PreparedContext(
            text,
            count(text),
            tuple(chunks),
            tuple(merge_pieces(next(scored), rules, options) for _ in chunks),
        )
        for text, chunks in zip(contexts, chunked, strict=True)
    )
    return Prepared(model, rules, prepared, count)


def select(prepared: Prepared, options: LLMLinguaOptions) -> LLMLinguaResult:
    """The words that stay at these options' rates. Options that change the scores must equal `prepare`'s."""
    total = sum(context.tokens for context in prepared.contexts)
    rate = options.rate
    kept = [True] * len(prepared.contexts)
    if options.use_context_level_filter and len(prepared.contexts) > 1:
        kept = filter_contexts(prepared, options, total)
        if options.target_token >= 0:
            left = sum(
                prepared.count(chunk)
                for context, stays in zip(prepared.contexts, kept, strict=True)
                if stays
                for chunk in context.chunks
            )
            rate = min(options.target_token / left, 1.0) if left else 1.0
    elif options.target_token > 0 and total:
        rate = min(options.target_token / total, 1.0)
    reduce_rate = max(0.0, 1 - rate) if options.use_token_level_filter else 0.0
    texts: list[str] = []
    labels: list[tuple[str, int]] = []
    for context, stays in zip(prepared.contexts, kept, strict=True):
        if stays:
            text, found = shorten_context(prepared, context, options, reduce_rate)
            texts.append(text)
            labels.extend(found)
        else:
            labels.extend((prepared.rules.label(w), 0) for chunk in context.words for w in chunk.words)
    return LLMLinguaResult(
        compressed_prompt_list=tuple(texts),
        origin_tokens=total,
        compressed_tokens=sum(map(prepared.count, texts)),
        labels=tuple(labels) if options.return_word_label else None,
        word_sep=options.word_sep,
        label_sep=options.label_sep,
    )


def filter_contexts(prepared: Prepared, options: LLMLinguaOptions, total: int) -> list[bool]:
    """llmlingua's coarse stage: keeps a share of the contexts by the mean of their words' probabilities."""
    share = context_share(options, len(prepared.contexts), total)
    scores = [mean_probability(context) for context in prepared.contexts]
    percentile = int(100 * (1 - share))
    if not 0 <= percentile <= 100:
        raise InvalidBudget(f"compat=llmlingua cannot keep a share of {share:g} of the contexts")
    threshold = np.percentile(np.array(scores), percentile)
    return [bool(s >= threshold) or i in options.force_context_ids for i, s in enumerate(scores)]


def context_share(options: LLMLinguaOptions, contexts: int, total: int) -> float:
    """The share of contexts to keep, by llmlingua's order of precedence and its own defaults."""
    share, tokens = options.context_level_rate, options.context_level_target_token
    if options.target_context <= 0 and share >= 1.0 and tokens <= 0:
        if options.target_token < 0 and options.rate < 1.0:
            share = (options.rate + 1.0) / 2 if options.use_token_level_filter else options.rate
        if options.target_token >= 0:
            tokens = options.target_token * 2 if options.use_token_level_filter else options.target_token
    if options.target_context >= 0:
        share = min(options.target_context / contexts, 1.0)
    if tokens >= 0 and total:
        share = min(tokens / total, 1.0)
    return share


def mean_probability(context: PreparedContext) -> Probability:
    """llmlingua divides by zero for a context without words; such a context scores 0."""
    scores = [p for chunk in context.words for p in chunk.unforced]
    return sum(scores) / len(scores) if scores else 0.0


def shorten_context(
    prepared: Prepared, context: PreparedContext, options: LLMLinguaOptions, reduce_rate: float
) -> tuple[str, list[tuple[str, int]]]:
    """One context's text and its labelled words. Chunks are joined with nothing between, as in llmlingua."""
    rules = prepared.rules
    if reduce_rate <= 0:
        whole = [rules.reveal(chunk) for chunk in context.chunks]
        return "".join(whole), [(word, 1) for chunk in whole for word in PLAIN_WORDS.findall(chunk)]
    parts: list[str] = []
    labels: list[tuple[str, int]] = []
    for found in context.words:
        kept = choose_words(found, options, reduce_rate, prepared.count)
        parts.append(prepared.model.text([w for w, k in zip(found.words, kept, strict=True) if k]))
        labels.extend((rules.label(w), k) for w, k in zip(found.words, kept, strict=True))
    return "".join(parts), labels


def at_rate(options: LLMLinguaOptions, rate: float) -> LLMLinguaOptions:
    """The same options at another rate, for callers that look for the rate that meets a budget."""
    if options.target_token >= 0:
        raise InvalidOption("target_token overrides rate")
    return replace(options, rate=rate)
