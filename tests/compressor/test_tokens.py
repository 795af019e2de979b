import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from compressor.errors import InvalidOption
from compressor.text.tokens import PIECE, counter_for, encoding_of_model

TEXT = "The quick brown fox, 3.14; isn't it?\n\n  我们去北京。 सब 👩‍👩‍👧\n" * 3


@pytest.fixture(scope="module", params=["o200k_base", "cl100k_base"])
def encoding(request: pytest.FixtureRequest) -> tiktoken.Encoding:
    """tiktoken's own, read from the same files."""
    import importlib.util

    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(request.param)
    finally:
        del os.environ["TIKTOKEN_CACHE_DIR"]
        if before is not None:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


@pytest.mark.parametrize(
    "text", ["", "a", TEXT, TEXT * 800, "\n" * 100, "<|endoftext|>", "我" * 500, " x" * 30_000]
)
def test_counts_are_tiktokens(encoding: tiktoken.Encoding, text: str) -> None:
    counter = counter_for(encoding.name)
    expected = encoding.encode_ordinary(text)
    assert counter.count(text) == len(expected)
    assert counter.count_many([text, "x", text]) == [len(expected), 1, len(expected)]
    starts = counter.token_starts(text)
    assert len(starts) == len(expected)
    if text.isascii() and text:
        assert starts[-1] + len(encoding.decode_single_token_bytes(expected[-1])) == len(text)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=300))
def test_token_starts_ascend_within_the_text(text: str) -> None:
    starts = counter_for("o200k_base").token_starts(text)
    assert len(starts) == counter_for("o200k_base").count(text)
    assert np.all(np.diff(starts) >= 0)
    assert all(0 <= start < max(1, len(text)) for start in starts.tolist())


def test_token_starts_are_characters_not_bytes() -> None:
    assert counter_for("o200k_base").token_starts("日本 x").tolist()[-1] == 2


@pytest.mark.parametrize("unit", ["a", " ", "\n", "中", "!"])
def test_a_million_of_one_character_does_not_take_minutes(unit: str) -> None:
    began = time.process_time()
    assert 0 < counter_for("o200k_base").count(unit * 1_000_000) <= 1_000_000
    assert time.process_time() - began < 5  # 0.3 s alone


def test_texts_above_the_piece_size_count_as_they_are(encoding: tiktoken.Encoding) -> None:
    text = "".join(f"word{i % 97} and {i}, " for i in range(PIECE // 4)) + "中文。" * 8000
    assert counter_for(encoding.name).count(text) == pytest.approx(len(encoding.encode_ordinary(text)), abs=2)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-davinci-003", "cl100k_base"),
        ("gpt-oss-120b", "o200k_base"),
        ("claude-sonnet-4-5", "o200k_base"),
        ("no-such/model", "o200k_base"),
    ],
)
def test_models(model: str, name: str) -> None:
    assert encoding_of_model(model) == name
    assert counter_for(model).name == name


def test_tokenizer_folders(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"hello": 0, "world": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[CLS]"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counter = counter_for(str(tmp_path))
    assert counter.count("hello world") == 2
    assert counter.count("[CLS]") == 3  # ordinary text, not the special token
    assert counter.token_starts("hello  world").tolist() == [0, 7]
    assert counter.name == str(tmp_path)


def test_a_folder_without_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"tokenizer\.json"):
        counter_for(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidOption, match="tokenizer"):
        counter_for(str(tmp_path))


def test_neither_torch_nor_litellm_is_imported() -> None:
    script = "import sys, compressor\nfrom compressor.text.tokens import counter_for\n"
    script += "counter_for('gpt-4').count('x')\n"
    script += "print([name for name in ('torch', 'litellm', 'transformers') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
