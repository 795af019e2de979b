"""`Compressor`: shortens texts and conversations with an encoder that runs here or elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from compressor.batching import for_each
from compressor.config import CompressorConfig, Precision
from compressor.conversation import Part, put_back, take_apart
from compressor.engine.protocol import ScoringEngine
from compressor.errors import EngineStopped, InvalidOption
from compressor.event_loop import LoopThread, Result
from compressor.lanes import Lanes
from compressor.options import CompressOptions, budget_of, check_options, check_text, tokens_of_share
from compressor.shapes import DEFAULT_PROTECT, Shortened, ShortenedMessages, Span
from compressor.tagged import ShortenedJson, cut_tagged, has_tags, join_sections, plan_json
from compressor.text.choice import Passage, shorten_passages
from compressor.text.passages import outline
from compressor.text.tokens import TokenCounter, counter_for
from compressor.text.units import question_units
from compressor.text.words import split_words

if TYPE_CHECKING:
    from compressor.compat.model import LLMLinguaModel
    from compressor.processes.pool import ProcessPool

Message = Mapping[str, Any]


class Compressor:
    """Shortens text by dropping what an encoder finds dispensable. Safe to use from several threads.

    Open one with `Compressor.open`, or give it a running engine. Close it, or use it as a context manager.
    """

    def __init__(self, engine: ScoringEngine, *, tokenizer: str = "o200k_base", model: str = "") -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._model = model
        self._compat_model: LLMLinguaModel | None = None
        self._runner = LoopThread()
        self._pool: ProcessPool | None = None
        self._pool_lock = Lock()
        self._lanes = Lanes("terse-words")

    @classmethod
    def open(
        cls,
        model: str = "default",
        *,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        tokenizer: str = "o200k_base",
    ) -> Compressor:
        """Loads an encoder: "default" (embedded), a folder, or a hub name that is on disk already.

        Nothing of torch is imported before this, and nothing at all for the embedded model on a CPU. Raises
        ModelLoadFailed.
        """
        from compressor.startup import open_engine

        config = CompressorConfig(model=model, device=device, precision=precision, threads=threads)
        return cls(open_engine(config), tokenizer=tokenizer, model=model)

    @property
    def engine(self) -> ScoringEngine:
        """The engine that scores: its device, fingerprint and health."""
        return self._engine

    @overload
    def compress(self, content: str, **options: Unpack[CompressOptions]) -> Shortened: ...

    @overload
    def compress(
        self, content: Sequence[Message], **options: Unpack[CompressOptions]
    ) -> ShortenedMessages: ...

    def compress(
        self, content: str | Sequence[Message], **options: Unpack[CompressOptions]
    ) -> Shortened | ShortenedMessages:
        """Shortens a text, or the texts of a conversation (OpenAI's or Anthropic's messages).

        Raises InvalidText, InvalidBudget, InvalidOption; BudgetTooSmall when what must stay is larger than
        the budget; ScoringFailed, Overloaded or EngineStopped when the engine cannot score.
        """
        return self._runner.run(self._compress(content, options))

    def compress_batch(
        self, texts: Sequence[str], *, processes: int = 1, **options: Unpack[CompressOptions]
    ) -> list[Shortened]:
        """Shortens each text on its own, to the same share or target; results are in order.

        With `processes` above 1, so many worker processes tokenise, choose and rebuild, while the encoder
        stays here: one process's Python keeps up with about half a million tokens a second. They are started
        by the first such call and kept until `close`. Raises what `compress` raises, for the first text that
        fails; EngineStopped when a worker dies.
        """
        check_options(options)
        if processes == 1:
            return self._runner.run(for_each(texts, lambda text: self._compress_text(text, options)))
        if options.get("compat") is not None:
            raise InvalidOption("processes: compat runs in one process")
        return self._processes(processes).shorten(texts, options)

    @overload
    async def acompress(self, content: str, **options: Unpack[CompressOptions]) -> Shortened: ...

    @overload
    async def acompress(
        self, content: Sequence[Message], **options: Unpack[CompressOptions]
    ) -> ShortenedMessages: ...

    async def acompress(
        self, content: str | Sequence[Message], **options: Unpack[CompressOptions]
    ) -> Shortened | ShortenedMessages:
        """`compress` for coroutines. Cancelling it drops what still waits to be scored."""
        return await self._compress(content, options)

    def compress_json(
        self, data: Mapping[str, Any], config: Mapping[str, Any] | str, **options: Unpack[CompressOptions]
    ) -> ShortenedJson:
        """Shortens the values of an object, key by key, as llmlingua's JSON configurations say.

        `config` (or the YAML file of that name) gives for each top-level key `compress`, `rate` (share
        kept), `value_type` and `pair_remove`. What comes back has the same structure; keys and numbers are
        untouched.
        """
        return self._runner.run(self._compress_json(data, config, options))

    def close(self) -> None:
        """Stops the engine and frees its device. Later calls raise EngineStopped."""
        if self._pool is not None:
            self._pool.close()
        self._runner.run(self._engine.close())
        self._runner.stop()
        self._lanes.close()

    def __enter__(self) -> Compressor:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _compress(
        self, content: str | Sequence[Message], options: CompressOptions
    ) -> Shortened | ShortenedMessages:
        check_options(options)
        if isinstance(content, str):
            return await self._compress_text(content, options)
        return await self._compress_messages(content, options)

    def _processes(self, processes: int) -> ProcessPool:
        """The worker processes, started if there are none or not so many."""
        from compressor.engine.engine import Engine
        from compressor.processes.pool import ProcessPool

        if not isinstance(processes, int) or processes < 1:
            raise InvalidOption(f"processes: expected a whole number of at least 1, got {processes!r}")
        if not self._model or not isinstance(self._engine, Engine):
            raise InvalidOption("processes: needs a compressor that was opened from a model")
        with self._pool_lock:
            if self._pool is not None and (self._pool.closed or self._pool.size != processes):
                self._pool.close()
                self._pool = None
            if self._pool is None:
                self._pool = ProcessPool(self._engine, self._model, self._tokenizer, processes, self._runner)
            return self._pool

    async def _compress_text(self, text: str, options: CompressOptions) -> Shortened:
        check_text(text)
        keep, target = budget_of(options)
        if options.get("compat") is not None:
            return await asyncio.to_thread(self._compress_like_llmlingua, text, options)
        counter = self._counter(options)
        if has_tags(text):
            return await self._compress_tagged(text, options, counter)
        passage, tokens = await self._passage(text, options, counter)
        goal = target if target is not None else tokens_of_share(keep, tokens)
        shortened = (await self._shorten([passage], goal, counter, options))[0]
        if target is None and text.strip() and not shortened.text:
            # A share of a word or two is less than a word; losing the whole text cannot be meant.
            whole = replace(passage, whole=True)
            shortened = (await self._shorten([whole], tokens, counter, options))[0]
            return replace(shortened, note="too short to be shortened")
        return shortened

    async def _compress_tagged(self, text: str, options: CompressOptions, counter: TokenCounter) -> Shortened:
        """Sections of `<llmlingua, rate=0.4, compress=False>` tags: those with a rate have their own
        budget.
        """
        keep, target = budget_of(options)
        sections = cut_tagged(text)
        bodies = [text[section.span.start : section.span.end] for section in sections]
        measured = await asyncio.gather(*(self._passage(body, options, counter) for body in bodies))
        sizes = [size for _, size in measured]
        results: dict[int, Shortened] = {}
        shared = []
        for index, (section, (passage, size)) in enumerate(zip(sections, measured, strict=True)):
            rate = section.rate if section.compress else 1.0
            if rate is None:
                shared.append(index)
                continue
            own = replace(passage, whole=not section.compress)
            results[index] = (await self._shorten([own], tokens_of_share(rate, size), counter, options))[0]
        goal = tokens_of_share(keep, sum(sizes[index] for index in shared))
        if target is not None:
            goal = max(0, target - sum(one.tokens_after for one in results.values()))
        common = await self._shorten([measured[index][0] for index in shared], goal, counter, options)
        results.update(zip(shared, common, strict=True))
        return join_sections(sections, [results[index] for index in range(len(sections))], counter)

    async def _compress_messages(
        self, messages: Sequence[Message], options: CompressOptions
    ) -> ShortenedMessages:
        keep, target = budget_of(options)
        if options.get("compat") is not None:
            raise InvalidOption('compat: "llmlingua" takes a text, not messages')
        counter = self._counter(options)
        parts = take_apart(messages, counter)
        for part in parts:
            check_text(part.text)
        measured = await asyncio.gather(*(self._part_passage(part, options, counter) for part in parts))
        whole = sum(size for part, (_, size) in zip(parts, measured, strict=True) if part.whole)
        free = sum(size for _, size in measured) - whole
        goal = target if target is not None else whole + tokens_of_share(keep, free)
        shortened = await self._shorten([passage for passage, _ in measured], goal, counter, options)
        return ShortenedMessages(
            messages=put_back(messages, parts, [one.text for one in shortened]),
            parts=tuple(shortened),
            tokens_before=sum(one.tokens_before for one in shortened),
            tokens_after=sum(one.tokens_after for one in shortened),
            tokenizer=counter.name,
        )

    async def _compress_json(
        self, data: Mapping[str, Any], config: Mapping[str, Any] | str, options: CompressOptions
    ) -> ShortenedJson:
        check_options(options)
        keep, _ = budget_of(options)
        counter = self._counter(options)
        plan = plan_json(data, config, keep)
        measured = await asyncio.gather(*(self._passage(leaf.text, options, counter) for leaf in plan.leaves))
        shortened = []
        for leaf, (passage, size) in zip(plan.leaves, measured, strict=True):
            goal = tokens_of_share(leaf.rate, size)
            shortened += await self._shorten([replace(passage, whole=leaf.rate >= 1)], goal, counter, options)
        return plan.result(shortened, counter)

    async def _part_passage(
        self, part: Part, options: CompressOptions, counter: TokenCounter
    ) -> tuple[Passage, int]:
        if part.whole:
            words = await self._on_thread(len(part.text), split_words, part.text)
            passage = Passage(part.text, np.zeros(len(words), np.uint8), whole=True)
            return await self._outlined(passage, counter)
        return await self._passage(part.text, options, counter, part.stay)

    async def _passage(
        self, text: str, options: CompressOptions, counter: TokenCounter, stay: tuple[Span, ...] = ()
    ) -> tuple[Passage, int]:
        """A text with its scores, and its relevance when there is a question; and how many tokens it has."""
        question = options.get("question")
        protect = options.get("protect")
        bare = Passage(
            text=text,
            scores=np.zeros(0, np.uint8),
            protect=frozenset(DEFAULT_PROTECT if protect is None else protect),
            force_tokens=tuple(options.get("force_tokens") or ()),
            question=question or "",
            kind=options.get("kind", "auto"),
            stay=stay,
        )
        if not text.strip():
            return await self._outlined(bare, counter)
        relevance = None
        # What needs no scores is done while the encoder works.
        scores, (passage, tokens) = await asyncio.gather(
            self._engine.score(text), self._outlined(bare, counter)
        )
        if question:
            relevance = await self._rank(question, text)
        return replace(passage, scores=scores.values, relevance=relevance), tokens

    async def _rank(self, question: str, text: str) -> NDArray[np.uint8]:
        check_text(question)
        units = await self._on_thread(len(text), question_units, text)
        return await self._engine.rank(question, units.passages)

    async def _outlined(self, passage: Passage, counter: TokenCounter) -> tuple[Passage, int]:
        """The passage with its outline, and how many tokens it has."""
        known = await self._on_thread(len(passage.text), outline, passage, counter)
        return replace(passage, outline=known), known.tokens

    async def _shorten(
        self, passages: Sequence[Passage], target: int, counter: TokenCounter, options: CompressOptions
    ) -> list[Shortened]:
        choose = partial(
            shorten_passages,
            passages,
            target,
            counter,
            explain=options.get("explain", False),
            unit=options.get("unit", "auto"),
        )
        return await self._on_thread(sum(len(one.text) for one in passages), choose)

    async def _on_thread(self, characters: int, work: Callable[..., Result], *given: Any) -> Result:
        """The work's result, from the thread for texts of this size."""
        try:
            working = asyncio.get_running_loop().run_in_executor(self._lanes.of(characters), work, *given)
        except RuntimeError as error:
            raise EngineStopped("the compressor is closed") from error
        return await working

    def _counter(self, options: CompressOptions) -> TokenCounter:
        return counter_for(options.get("tokenizer") or self._tokenizer)

    def _compress_like_llmlingua(self, text: str, options: CompressOptions) -> Shortened:
        from compressor.compat import compress_llmlingua
        from compressor.compat.compress import opened

        if not self._model:
            raise InvalidOption("compat: needs a compressor that was opened from a model folder")
        if self._compat_model is None:
            self._compat_model = opened(self._model)
        given = dict(options.get("llmlingua") or {})
        for ours, theirs in (
            ("keep", "rate"),
            ("target_tokens", "target_token"),
            ("force_tokens", "force_tokens"),
        ):
            if (value := options.get(ours)) is not None:
                given.setdefault(theirs, value)
        result = compress_llmlingua(self._compat_model, text, **given)
        # llmlingua puts text together anew, so there are no slices of the original to tell.
        return Shortened(
            text=result.compressed_prompt,
            kept=(),
            scores=np.zeros(0, np.uint8),
            tokens_before=result.origin_tokens,
            tokens_after=result.compressed_tokens,
            tokenizer="cl100k_base",
            note="compat=llmlingua",
        )
