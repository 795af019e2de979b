from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from compressor.errors import InvalidOption, ModelLoadFailed
from compressor.training.base import read_packed
from compressor.training.encoder import open_tokenizer
from compressor.training.prune import cut_layers, cut_vocabulary, layers_of, spread_layers
from tests.compressor.training.conftest import town_text


def test_layers_are_cut_and_renumbered(tmp_path: Path, tiny_base: Path) -> None:
    folder = cut_layers(tiny_base, tmp_path / "cut", (0, 2))
    before, after = load_file(tiny_base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert layers_of(folder) == 2
    name = "encoder.layer.{}.output.dense.weight"
    assert after[name.format(1)].equal(before[name.format(2)])
    assert name.format(2) not in after
    with pytest.raises(InvalidOption, match="4 of 3 layers"):
        spread_layers(3, 4)


def test_pieces_and_embeddings_are_cut_together(tmp_path: Path, tiny_base: Path) -> None:
    before = open_tokenizer(tiny_base)
    size = before.get_vocab_size() - 40
    folder = cut_vocabulary(tiny_base, tmp_path / "cut", [town_text(n) for n in range(8)], size)
    after = open_tokenizer(folder)
    rows = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    old = load_file(tiny_base / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert after.get_vocab_size() == len(rows) == size
    for piece, at in after.get_vocab().items():
        assert rows[at].equal(old[before.token_to_id(piece)])
    text = town_text(5)
    encoding = after.encode(text)
    assert encoding.ids[0] == after.token_to_id("<s>")
    assert after.token_to_id("<unk>") not in encoding.ids
    assert encoding.offsets[-2][1] == len(text)


def test_a_base_that_is_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    other.write_bytes(b"no zip")
    with pytest.raises(ModelLoadFailed, match=r"other\.whl"):
        read_packed(other)
    packed = tmp_path / "packed.bin"
    packed.write_bytes(b"E5S1")
    with pytest.raises(ModelLoadFailed, match="SHA-256"):
        read_packed(packed)
