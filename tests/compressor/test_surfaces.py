"""Places told from spelling are the tokenizer's own, in every script, or the tokenizer is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from compressor.engine.surfaces import Pieces, surfaces_of
from compressor.engine.tokenizing import TextTokenizer, code_points
from compressor.model.compact import read_tokenizer
from compressor.model.loading import DEFAULT_FOLDER
from compressor.text.words import split_words
from tests.support.tiny_encoder import unigram_tokenizer, wordpiece_tokenizer


def split_at_spaces() -> Tokenizer:
    """As XLM-R's: words are told apart by their spaces, which are no part of them."""
    tokenizer = unigram_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({sign: at for at, sign in enumerate(_byte_signs())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _byte_signs() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


RAW: dict[str, Any] = {
    "embedded": Tokenizer.from_str(read_tokenizer(DEFAULT_FOLDER)),
    "unigram": unigram_tokenizer(),
    "spaces": split_at_spaces(),
    "wordpiece": wordpiece_tokenizer(),
    "bytes": byte_level(),
}
for raw in RAW.values():
    raw.encode_special_tokens = True
TOKENIZERS = {name: TextTokenizer(Tokenizer.from_str(raw.to_str())) for name, raw in RAW.items()}
SIGNS = "abc  .\n,!?3é会議は‍👍🏽\x00ก\t…ﬁ½Ａ▁#한مرन\u0301\u200b\u00a0\u3000"
TEXT = st.text(st.one_of(st.sampled_from(SIGNS), st.characters(exclude_categories=["Cs"])), max_size=400)
PROSE = "The meeting  began at ten.\nEverybody agreed: 3.14 million (too small)! 会议在上午。 Wir über 1.250."


def own_places(name: str, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and offsets as the tokenizer itself gives them."""
    encoded = RAW[name].encode(text, add_special_tokens=False)
    return encoded.ids, encoded.offsets


def our_places(name: str, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    slabs = list(TOKENIZERS[name].tokenize(text, code_points(text), split_words(text)))
    ids = [at for slab in slabs for at in slab.ids.tolist()]
    pairs = [pair for slab in slabs for pair in zip(slab.starts.tolist(), slab.ends.tolist(), strict=True)]
    return ids, pairs


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=80, deadline=None)
@example("\x0b0")
@example("a\x0bb \x0b\x0bc")
@given(text=TEXT)
def test_ids_and_places_are_the_tokenizers_own(name: str, text: str) -> None:
    assert our_places(name, text) == own_places(name, text)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=8, deadline=None)
@given(strange=st.lists(TEXT.filter(lambda text: bool(text.split())), min_size=1, max_size=3))
def test_some_strange_pieces_do_not_move_the_others(name: str, strange: list[str]) -> None:
    text = "".join(f"{PROSE * 15}\n {part} " for part in strange) + PROSE
    with_places = our_places(name, text)
    tokenizer = TOKENIZERS[name]
    told, tokenizer._surfaces = tokenizer._surfaces, None
    try:
        assert our_places(name, text) == with_places
    finally:
        tokenizer._surfaces = told


def test_which_tokenizers_can_be_told_from_spelling() -> None:
    told = {name: tokenizer._surfaces is not None for name, tokenizer in TOKENIZERS.items()}
    assert told == {"embedded": True, "unigram": True, "spaces": True, "wordpiece": True, "bytes": False}


def test_plain_text_needs_no_asking_and_changed_text_does() -> None:
    surfaces = surfaces_of(RAW["embedded"])
    assert surfaces is not None
    texts = [" The meeting began.", " It cost ½ of it", "\nthe end"]
    encoded = [RAW["embedded"].encode(text, add_special_tokens=False) for text in texts]
    pieces = Pieces(
        np.concatenate([code_points(text) for text in texts]),
        np.array([len(text) for text in texts]),
        np.concatenate([np.array(one.ids, np.int32) for one in encoded]),
        np.array([len(one.ids) for one in encoded]),
    )
    assert surfaces.locate(pieces).known.tolist() == [True, False, True]
