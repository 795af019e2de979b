from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from compressor.training.chunks import chunk_documents, cut, sentence_spans
from compressor.training.records import Chunk, Origin

words = st.text(alphabet="ab.。!? \n\t한国", max_size=120)


@given(words)
def test_sentences_are_the_whole_text(text: str) -> None:
    assert "".join(text[start:end] for start, end in sentence_spans(text)) == text


@given(words, st.integers(1, 9))
def test_chunks_are_the_whole_text_and_within_the_limit(text: str, limit: int) -> None:
    offsets = [(at, at + 1) for at, character in enumerate(text) if not character.isspace()]
    spans = cut(text, offsets, limit)
    assert "".join(text[start:end] for start, end in spans) == text
    for start, end in spans:
        assert sum(start <= first < end for first, _ in offsets) <= limit


def test_numbers_and_versions_end_no_sentence() -> None:
    text = "Version 3.14 came in. It is v1.2.3, see a.b.c. Good."
    assert [text[a:b].strip() for a, b in sentence_spans(text)] == [
        "Version 3.14 came in.",
        "It is v1.2.3, see a.b.c.",
        "Good.",
    ]


def test_chunks_end_at_sentences(tiny_base: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    text = "The town lies by the river. It was founded in 1200. " * 6
    chunks = list(chunk_documents([Chunk("d", text, Origin("d"))], tokenizer, 40))
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(chunk.text.rstrip().endswith(".") for chunk in chunks)
    assert [chunk.id for chunk in chunks[:2]] == ["d#0", "d#1"]
    assert all(len(tokenizer.encode(chunk.text, add_special_tokens=False).ids) <= 42 for chunk in chunks)
