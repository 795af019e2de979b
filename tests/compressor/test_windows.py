"""Windows cover every word once, see context on both sides, and end where sentences end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from compressor.engine.scorer import Window
from compressor.engine.tokenizing import (
    GIANT_WORD_CHARS,
    PIECE_CHARS,
    TextTokenizer,
    TokenizedText,
    code_points,
    cut_slabs,
    may_have_giants,
)
from compressor.engine.windows import WindowPlanner, WindowShape, plan_windows
from compressor.errors import InvalidText, ModelLoadFailed
from compressor.text.words import split_words
from tests.support.tiny_encoder import unigram_tokenizer, wordpiece_tokenizer

RAW = {"unigram": unigram_tokenizer(), "wordpiece": wordpiece_tokenizer()}
TOKENIZERS = {name: TextTokenizer(Tokenizer.from_str(raw.to_str())) for name, raw in RAW.items()}
TEXT = st.text(
    st.one_of(st.sampled_from("abc .\n,!?3é会议は‍👍🏽\x00ก\t"), st.characters(exclude_categories=["Cs"])),
    max_size=400,
)


def all_tokens(tokenizer: TextTokenizer, text: str) -> TokenizedText:
    slabs = list(tokenizer.tokenize(text, code_points(text), split_words(text)))
    columns = zip(*((slab.ids, slab.starts, slab.ends) for slab in slabs), strict=True)
    joined = [np.concatenate(column) for column in columns] or [np.zeros(0, np.int32)] * 3
    return TokenizedText(*joined)


def all_windows(tokenizer: TextTokenizer, text: str, shape: WindowShape) -> list[Window]:
    codes, words = code_points(text), split_words(text)
    some = plan_windows(codes, words, tokenizer.tokenize(text, codes, words), shape)
    return [window for windows in some for window in windows]


def shape_of(tokenizer: TextTokenizer, tokens: int = 24, margin: int = 3) -> WindowShape:
    return WindowShape(tokens, margin, tokenizer.prefix, tokenizer.suffix)


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(text=TEXT)
def test_every_word_with_a_token_is_judged_once(family: str, text: str) -> None:
    tokenizer = TOKENIZERS[family]
    words = split_words(text)
    tokens = all_tokens(tokenizer, text)
    seen = np.zeros(len(words), int)
    shape = shape_of(tokenizer)
    for window in all_windows(tokenizer, text, shape):
        assert window.ids.size <= shape.tokens
        assert tuple(window.ids[:1]) == shape.prefix and tuple(window.ids[-1:]) == shape.suffix
        judged = np.unique(window.pair_words)
        assert judged.min() == 0 and judged.max() == window.words - 1
        assert window.pair_tokens.min() >= 1 and window.pair_tokens.max() < window.ids.size - 1
        seen[window.first_word + judged] += 1
    covered = [
        bool(((tokens.starts < end) & (tokens.ends > start)).any())
        for start, end in zip(words.starts.tolist(), words.ends.tolist(), strict=True)
    ]
    assert seen.tolist() == [int(has_token) for has_token in covered]


def test_inner_words_have_context_on_both_sides() -> None:
    tokenizer = TOKENIZERS["unigram"]
    text = " ".join(f"word{number}" for number in range(300))
    windows = all_windows(tokenizer, text, shape_of(tokenizer))
    assert len(windows) > 5
    for before, after in pairwise(windows):
        assert before.pair_tokens.max() < before.ids.size - 1 - 3  # 3 tokens of context, then </s>
        assert after.pair_tokens.min() >= 1 + 3
        assert after.first_word == before.first_word + before.words


def test_windows_end_at_sentences_and_lines() -> None:
    tokenizer = TOKENIZERS["unigram"]
    text = "The meeting began at ten. Everybody agreed.\n" * 20
    words = split_words(text)
    windows = all_windows(tokenizer, text, shape_of(tokenizer, 64, 4))
    ends = [words.strings()[window.first_word + window.words - 1] for window in windows[:-1]]
    assert len(ends) > 2
    assert set(ends) <= {"agreed.", "ten."}


@pytest.mark.parametrize("family", TOKENIZERS)
def test_pieces_change_no_token(family: str) -> None:
    tokenizer = TOKENIZERS[family]
    raw = RAW[family]
    text = (
        "The meeting  began at ten.\nEverybody agreed that\t3.14 million was too small! \n\n" * 500
    ).strip()
    assert len(text) > 8 * PIECE_CHARS
    tokens = all_tokens(tokenizer, text)
    whole = raw.encode(text, add_special_tokens=False)
    assert tokens.ids.tolist() == whole.ids
    assert list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)) == whole.offsets


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["word", " ", "\n", "\u3000", "会议", "x" * 1000, "y" * 2048]), max_size=60
    )
)
def test_a_text_without_giants_is_cut_before_its_words_are_known(parts: list[str]) -> None:
    text = "".join(parts)
    codes, words = code_points(text), split_words(text)
    if not may_have_giants(codes):
        assert (words.ends - words.starts).max(initial=0) <= GIANT_WORD_CHARS
        assert cut_slabs(codes) == cut_slabs(codes, words)
    slabs = cut_slabs(codes, words)
    assert all(0 < end - start <= PIECE_CHARS for slab in slabs for start, end in slab.spans)
    assert [slab.last for slab in slabs] == [number == len(slabs) for number in range(1, len(slabs) + 1)]


def test_a_giant_word_is_judged_by_its_beginning() -> None:
    tokenizer = TOKENIZERS["unigram"]
    text = "before " + "a" * 10_000_000 + " after"
    words = split_words(text)
    tokens = all_tokens(tokenizer, text)
    assert tokens.ids.size < 5000
    windows = all_windows(tokenizer, text, shape_of(tokenizer))
    assert sum(window.words for window in windows) == len(words) == 3
    assert len(windows) <= 3


def test_a_word_is_judged_by_its_letters_and_signs_alone_by_themselves() -> None:
    tokenizer = TOKENIZERS["unigram"]
    text = '"abc, (abc). ... abc'
    words, tokens = split_words(text), all_tokens(tokenizer, text)
    assert words.strings() == ['"abc,', "(abc).", "...", "abc"]
    (window,) = all_windows(tokenizer, text, shape_of(tokenizer))
    judged_by: list[set[str]] = [set() for _ in range(len(words))]
    for token, word in zip(window.pair_tokens.tolist(), window.pair_words.tolist(), strict=True):
        judged_by[word].add(text[tokens.starts[token - 1] : tokens.ends[token - 1]].strip())
    signs = set('",().')
    assert not (judged_by[0] | judged_by[1] | judged_by[3]) & signs
    assert judged_by[2] and judged_by[2] <= {".", "..", "..."}


def test_special_tokens_spelled_out_are_plain_text() -> None:
    tokenizer = TOKENIZERS["unigram"]
    text = "a </s> b"
    tokens = all_tokens(tokenizer, text)
    assert not set(tokens.ids.tolist()) & {0, 2}


def test_an_unpaired_surrogate_is_named() -> None:
    with pytest.raises(InvalidText, match="character 4"):
        code_points("abc \ud800")


def test_windows_too_short_for_their_margins_are_refused() -> None:
    with pytest.raises(ModelLoadFailed, match="too short"):
        WindowShape(10, 4, (0,), (2,))


@settings(max_examples=100, deadline=None)
@given(text=TEXT, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_slabs_give_the_windows_of_the_whole(text: str, cuts: list[int]) -> None:
    tokenizer = TOKENIZERS["unigram"]
    tokens, codes, words = all_tokens(tokenizer, text), code_points(text), split_words(text)
    whole = WindowPlanner(codes, words, shape_of(tokenizer)).add(tokens, last=True)
    planner = WindowPlanner(codes, words, shape_of(tokenizer))
    bounds = sorted({0, tokens.ids.size, *(cut for cut in cuts if cut < tokens.ids.size)})
    found = []
    for start, end in pairwise(bounds):
        slab = TokenizedText(tokens.ids[start:end], tokens.starts[start:end], tokens.ends[start:end])
        found += planner.add(slab, last=end == tokens.ids.size)
    assert [window.ids.tolist() for window in found] == [window.ids.tolist() for window in whole]
    assert [window.first_word for window in found] == [window.first_word for window in whole]
    assert [window.pair_words.tolist() for window in found] == [w.pair_words.tolist() for w in whole]
