"""Spreads an encoder's scores over the whole byte.

A score is stored as one byte, 255 x P(keep). An encoder trained on labels that keep little gives nearly every
word a probability near 0, where a byte tells no two words apart. Shifting and scaling the log-odds changes no
order between tokens, costs nothing at run time (it is folded into the classifier) and makes the byte fine
where most words are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.engine.tokenizing import TextTokenizer, code_points
from compressor.engine.windows import WindowShape, plan_windows
from compressor.model.weights import EncoderWeights, Linear
from compressor.text.words import split_words

# What gateways see: talk, prose, logs, JSON, code, several scripts; one text between two lines of dashes.
SAMPLE = Path(__file__).with_name("calibration_sample.txt")
# The median lands in the middle of the byte, the best hundredth of tokens near its top (sigmoid(4) = 0.98).
_TOP = 4.0
_LEAST_SCALE = 0.05  # an encoder that tells nothing apart is not blown up into noise


def calibrate(
    weights: EncoderWeights,
    tokenizer: TextTokenizer,
    keep_label: int,
    windowing: tuple[int, int],
    texts: Sequence[str] = (),
) -> tuple[EncoderWeights, dict[str, float]]:
    """The same encoder with log-odds shifted and scaled by what it says of `texts` (SAMPLE's without any),
    and by how much.

    `windowing` is tokens a window and margin. Encoders with other than two labels come back as they are.
    """
    if weights.classifier.weight.shape[0] != 2:
        return weights, {"center": 0.0, "scale": 1.0}
    texts = texts or SAMPLE.read_text(encoding="utf-8").split("\n---\n")
    odds = _log_odds(weights, tokenizer, keep_label, windowing, texts)
    middle, top = np.quantile(odds, [0.5, 0.99])
    scale = max(float(top - middle) / _TOP, _LEAST_SCALE)
    weight, bias = weights.classifier.weight / scale, weights.classifier.bias / scale
    bias = bias.copy()
    bias[keep_label] -= middle / scale
    changed = replace(weights, classifier=Linear(weight.astype(np.float32), bias.astype(np.float32)))
    return changed, {"center": round(float(middle), 4), "scale": round(scale, 4)}


def _log_odds(
    weights: EncoderWeights,
    tokenizer: TextTokenizer,
    keep_label: int,
    windowing: tuple[int, int],
    texts: Sequence[str],
) -> NDArray[np.float64]:
    """Log-odds of every token that belongs to a word."""
    from compressor.model.openvino_scorer import OpenVinoScorer

    scorer = OpenVinoScorer(weights, keep_label=keep_label, precision="fp32", fingerprint="")
    shape = WindowShape(*windowing, tokenizer.prefix, tokenizer.suffix)
    found = []
    for text in texts:
        codes, words = code_points(text), split_words(text)
        slabs = tokenizer.tokenize(text, codes, words)
        windows = [window for some in plan_windows(codes, words, slabs, shape) for window in some]
        for window, odds in zip(windows, scorer.log_odds(windows), strict=True):
            found.append(odds[window.pair_tokens])
    scorer.close()
    return np.concatenate(found).astype(np.float64)
