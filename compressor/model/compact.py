"""The compact form of a BERT-shaped encoder: 4-bit word embeddings, 8-bit layers, a compressed tokenizer.

Embeddings use llama.cpp's Q4_0 (32 values share an fp16 scale; a value is scale x (q - 8), q in 0..15), so
embeddings that came out of a Q4_0 file and were not trained further lose nothing. Linear layers use
64 values a scale, value = scale x q, q in -127..127. The rest stays in fp16 or fp32.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.engine.tokenizing import TextTokenizer
from compressor.errors import ModelLoadFailed
from compressor.model.calibration import calibrate
from compressor.model.description import ModelDescription, describe_model, read_json
from compressor.model.packing import FourBitTable, pack_linear, pack_words, unpack_linear
from compressor.model.weights import (
    EncoderWeights,
    Floats,
    Layer,
    Linear,
    Norm,
    is_bert_shaped,
    read_tensors,
    read_weights,
)

WEIGHTS_FILE = "encoder.safetensors"
TOKENIZER_FILE = "tokenizer.json.xz"
FORMAT = 1
_PARTS = ("qkv", "out", "up", "down")


def save_compact(folder: Path, out: Path, *, notes: dict[str, Any] | None = None) -> dict[str, float]:
    """Writes the Hugging Face folder's encoder to `out` in compact form, `notes` under `terse` of its config.

    The classifier is calibrated (`compressor/model/calibration.py`), so that scores fill the byte. Returns
    what it cost: `megabytes`, and the mean error of embeddings and layers relative to their values. Raises
    ModelLoadFailed when the folder is no BERT-shaped token classifier with a tokenizer.json.
    """
    model = describe_model(folder)
    if not is_bert_shaped(model):
        raise ModelLoadFailed(f"{folder}: {model.family} has no compact form")
    weights, calibration = _calibrated(model, read_weights(model))
    table = pack_words(weights.words.rows(np.arange(weights.words.shape[0], dtype=np.int32)))
    tensors: dict[str, NDArray[Any]] = {"words.q": table.packed, "words.s": table.scales}
    tensors["positions"] = weights.positions.astype(np.float16)
    _put_norm(tensors, "norm", weights.norm)
    errors = []
    for number, layer in enumerate(weights.layers):
        for part in _PARTS:
            linear: Linear = getattr(layer, part)
            packed, scales = pack_linear(linear.weight)
            errors.append(_relative_error(linear.weight, unpack_linear(packed, scales)))
            tensors[f"{number}.{part}.q"], tensors[f"{number}.{part}.s"] = packed, scales
            tensors[f"{number}.{part}.b"] = linear.bias
        _put_norm(tensors, f"{number}.norm1", layer.norm1)
        _put_norm(tensors, f"{number}.norm2", layer.norm2)
    tensors["classifier.w"], tensors["classifier.b"] = weights.classifier.weight, weights.classifier.bias
    _write(out, model, tensors, {**(notes or {}), "calibration": calibration})
    every = np.arange(weights.words.shape[0], dtype=np.int32)
    return {
        "megabytes": sum(path.stat().st_size for path in out.iterdir() if path.is_file()) / 1e6,
        "embedding_error": _relative_error(weights.words.rows(every), table.rows(every)),
        "layer_error": float(np.mean(errors)),
    }


def is_compact(folder: Path) -> bool:
    """Whether the folder holds the compact form."""
    return (folder / WEIGHTS_FILE).is_file()


def read_compact(model: ModelDescription) -> EncoderWeights:
    """The encoder back, layers as float32. Raises ModelLoadFailed."""
    written = (model.config.get("terse") or {}).get("format")
    if written != FORMAT:
        raise ModelLoadFailed(f"{model.folder}: compact format {written!r}; this version reads {FORMAT}")
    tensors = read_tensors(model.folder / WEIGHTS_FILE)
    try:
        return _assemble(tensors, model)
    except KeyError as error:
        raise ModelLoadFailed(f"{model.folder}: weights are missing: {error.args[0]}") from None


def read_tokenizer(folder: Path) -> str:
    """The text of tokenizer.json."""
    try:
        return lzma.decompress((folder / TOKENIZER_FILE).read_bytes()).decode()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ModelLoadFailed(f"{folder / TOKENIZER_FILE}: {error}") from None


def _assemble(tensors: dict[str, NDArray[Any]], model: ModelDescription) -> EncoderWeights:
    def linear(name: str) -> Linear:
        return Linear(unpack_linear(tensors[f"{name}.q"], tensors[f"{name}.s"]), tensors[f"{name}.b"])

    def norm(name: str) -> Norm:
        return Norm(tensors[f"{name}.scale"], tensors[f"{name}.shift"])

    def layer(at: int) -> Layer:
        qkv, out, up, down = (linear(f"{at}.{part}") for part in _PARTS)
        return Layer(qkv, out, norm(f"{at}.norm1"), up, down, norm(f"{at}.norm2"))

    return EncoderWeights(
        words=FourBitTable(tensors["words.q"], tensors["words.s"]),
        positions=tensors["positions"].astype(np.float32),
        norm=norm("norm"),
        layers=tuple(layer(at) for at in range(int(model.config["num_hidden_layers"]))),
        classifier=Linear(tensors["classifier.w"], tensors["classifier.b"]),
        heads=int(model.config["num_attention_heads"]),
        epsilon=float(model.config.get("layer_norm_eps", 1e-12)),
    )


def _calibrated(model: ModelDescription, weights: EncoderWeights) -> tuple[EncoderWeights, dict[str, float]]:
    from tokenizers import Tokenizer

    tokenizer = TextTokenizer(Tokenizer.from_file(str(model.folder / "tokenizer.json")))
    window = model.window_tokens
    return calibrate(weights, tokenizer, model.keep_label, (window, model.margin(window)))


def _write(
    out: Path, model: ModelDescription, tensors: dict[str, NDArray[Any]], notes: dict[str, Any]
) -> None:
    from safetensors.numpy import save_file

    tokenizer = read_json(model.folder / "tokenizer.json")
    own = {**(model.config.get("terse") or {}), **notes, "format": FORMAT}
    config = {**model.config, "terse": own}
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, str(out / WEIGHTS_FILE)
    )
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (out / TOKENIZER_FILE).write_bytes(lzma.compress(text.encode(), preset=9))
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _put_norm(tensors: dict[str, NDArray[Any]], name: str, norm: Norm) -> None:
    tensors[f"{name}.scale"], tensors[f"{name}.shift"] = norm.scale, norm.shift


def _relative_error(before: Floats, after: Floats) -> float:
    return float(np.linalg.norm(after - before) / max(float(np.linalg.norm(before)), 1e-30))
