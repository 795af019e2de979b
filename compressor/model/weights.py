"""A BERT-shaped encoder's weights as plain numpy arrays, whatever runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.errors import ModelLoadFailed
from compressor.model.description import SHIFTED_POSITIONS, ModelDescription

Floats = NDArray[np.float32]
# Families whose encoder is BERT's: post-norm layers, absolute positions, GELU.
BERT_SHAPED = frozenset({"bert", "xlm-roberta", "roberta", "camembert"})
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.query\.weight$")


class WordTable(Protocol):
    """Word embeddings, plain or packed."""

    @property
    def shape(self) -> tuple[int, int]:
        """[vocabulary, hidden]."""

    def rows(self, ids: NDArray[np.int32]) -> Floats:
        """Embeddings of these tokens, [tokens, hidden]."""


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Embeddings as stored, converted as they are looked up."""

    values: NDArray[Any]  # [vocabulary, hidden]

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    def rows(self, ids: NDArray[np.int32]) -> Floats:
        """Embeddings of these tokens, [tokens, hidden]."""
        return self.values[ids].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Linear:
    """`x @ weight.T + bias`."""

    weight: Floats  # [out, in]
    bias: Floats  # [out]


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation's scale and shift, [hidden] each."""

    scale: Floats
    shift: Floats


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer: `norm1(x + out(attention(qkv(x))))`, then `norm2(x + down(gelu(up(x))))`."""

    qkv: Linear  # query, key and value stacked: [3 x hidden, hidden]
    out: Linear
    norm1: Norm
    up: Linear
    down: Linear
    norm2: Norm


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """A token classifier."""

    words: WordTable
    positions: Floats  # [max tokens, hidden], row 0 for the first token; token type 0 is added in
    norm: Norm
    layers: tuple[Layer, ...]
    classifier: Linear  # [labels, hidden]
    heads: int
    epsilon: float

    def embed(self, ids: NDArray[np.int32]) -> Floats:
        """What goes into the first layer for one window, [tokens, hidden]."""
        x = self.words.rows(ids) + self.positions[: ids.size]
        x -= x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=1, keepdims=True) + self.epsilon)
        return x * self.norm.scale + self.norm.shift


def bert_arrays(weights: EncoderWeights, token_types: int) -> dict[str, Floats]:
    """The weights under transformers' names for BERT, each a float32 copy: what `read_weights` reads, back.

    Token type 0 is part of the positions already, so the table of `token_types` rows is zero.
    """
    count, hidden = weights.words.shape
    arrays: dict[str, NDArray[Any]] = {
        "bert.embeddings.word_embeddings.weight": weights.words.rows(np.arange(count, dtype=np.int32)),
        "bert.embeddings.position_embeddings.weight": weights.positions,
        "bert.embeddings.token_type_embeddings.weight": np.zeros((token_types, hidden)),
        "bert.embeddings.LayerNorm.weight": weights.norm.scale,
        "bert.embeddings.LayerNorm.bias": weights.norm.shift,
        "classifier.weight": weights.classifier.weight,
        "classifier.bias": weights.classifier.bias,
    }
    for number, layer in enumerate(weights.layers):
        at = f"bert.encoder.layer.{number}"
        for place, part in enumerate(("query", "key", "value")):
            rows = slice(place * hidden, (place + 1) * hidden)
            arrays[f"{at}.attention.self.{part}.weight"] = layer.qkv.weight[rows]
            arrays[f"{at}.attention.self.{part}.bias"] = layer.qkv.bias[rows]
        dense = {"attention.output": layer.out, "intermediate": layer.up, "output": layer.down}
        for name, linear in dense.items():
            arrays[f"{at}.{name}.dense.weight"] = linear.weight
            arrays[f"{at}.{name}.dense.bias"] = linear.bias
        for name, norm in {"attention.output": layer.norm1, "output": layer.norm2}.items():
            arrays[f"{at}.{name}.LayerNorm.weight"] = norm.scale
            arrays[f"{at}.{name}.LayerNorm.bias"] = norm.shift
    return {name: np.array(array, np.float32) for name, array in arrays.items()}


def is_bert_shaped(model: ModelDescription) -> bool:
    """Whether `read_weights` knows this encoder."""
    config = model.config
    return (
        model.family in BERT_SHAPED
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def read_weights(model: ModelDescription) -> EncoderWeights:
    """From `model.safetensors`. Raises ModelLoadFailed when weights are missing or of the wrong shape."""
    return assemble(read_tensors(model.folder / "model.safetensors"), model)


def assemble(tensors: Mapping[str, NDArray[Any]], model: ModelDescription) -> EncoderWeights:
    """Names of Hugging Face checkpoints, with any prefix (`bert.`, `roberta.`), to an encoder."""
    by_name = {
        re.sub(r"^.*?(?=embeddings\.|encoder\.|classifier\.)", "", name): t for name, t in tensors.items()
    }

    def get(name: str) -> Floats:
        if name not in by_name:
            raise ModelLoadFailed(f"{model.folder}: weights are missing: {name}")
        return by_name[name].astype(np.float32)

    def linear(name: str) -> Linear:
        return Linear(get(f"{name}.weight"), get(f"{name}.bias"))

    def norm(name: str) -> Norm:
        return Norm(get(f"{name}.weight"), get(f"{name}.bias"))

    def layer(number: int) -> Layer:
        at = f"encoder.layer.{number}"
        parts = [linear(f"{at}.attention.self.{part}") for part in ("query", "key", "value")]
        qkv = Linear(np.concatenate([p.weight for p in parts]), np.concatenate([p.bias for p in parts]))
        return Layer(
            qkv,
            linear(f"{at}.attention.output.dense"),
            norm(f"{at}.attention.output.LayerNorm"),
            linear(f"{at}.intermediate.dense"),
            linear(f"{at}.output.dense"),
            norm(f"{at}.output.LayerNorm"),
        )

    numbers = sorted(int(found[1]) for name in by_name if (found := _LAYER.search(name)))
    if numbers != list(range(int(model.config.get("num_hidden_layers") or 0))) or not numbers:
        raise ModelLoadFailed(f"{model.folder}: found layers {numbers}, config.json says otherwise")
    if "embeddings.word_embeddings.weight" not in by_name:
        raise ModelLoadFailed(f"{model.folder}: weights are missing: embeddings.word_embeddings.weight")
    shifted = model.family in SHIFTED_POSITIONS
    first = int(model.config.get("pad_token_id") or 0) + 1 if shifted else 0
    return EncoderWeights(
        words=PlainTable(by_name["embeddings.word_embeddings.weight"]),
        positions=get("embeddings.position_embeddings.weight")[first:]
        + get("embeddings.token_type_embeddings.weight")[0],
        norm=norm("embeddings.LayerNorm"),
        layers=tuple(layer(number) for number in numbers),
        classifier=linear("classifier"),
        heads=int(model.config["num_attention_heads"]),
        epsilon=float(model.config.get("layer_norm_eps", 1e-12)),
    )


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """A safetensors file. Raises ModelLoadFailed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(str(path)))
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise ModelLoadFailed(f"{path}: {error}") from None
