"""Answer kept: how often a right answer still stands in the shortened text. Needs no reader LLM."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.training.encoder import Encoder, score_texts
from compressor.training.matching import fold
from compressor.training.records import Answerable

RATES = (0.5, 0.33, 0.2)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}，。、；：？！“”‘’（）《》「」『』·]")
_UNIT = re.compile(
    r"\s*(?:[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\s\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+)"
)


def normalised(text: str) -> str:
    """As SQuAD compares answers: case, punctuation, articles and white space removed; no spaces at all, so
    that
    the same rule serves languages that write none."""
    return "".join(_ARTICLES.sub(" ", _PUNCTUATION.sub("", fold(text))).split())


def shorten_plainly(text: str, scores: NDArray[np.float32], rate: float) -> str:
    """The words with the best mean score that fit into a share of the text's characters, in order."""
    words = np.array([found.span() for found in _UNIT.finditer(text)], np.int64).reshape(-1, 2)
    if not len(words):
        return ""
    starts, ends = words.T
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    counts = np.concatenate([[0], np.cumsum(scores > 0)])
    means = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts]).clip(min=1)
    best = np.argsort(-means, kind="stable")
    fitting = best[np.cumsum((ends - starts)[best]) <= rate * len(text)]
    return "".join(text[starts[at] : ends[at]] for at in np.sort(fitting))


def share_kept(
    encoder: Encoder,
    records: Sequence[Answerable],
    device: torch.device,
    window: int = 256,
    *,
    asked: bool = False,
) -> Mapping[str, dict[float, float]]:
    """For each source: the share of answerable questions whose answer survives, by rate.

    `asked`: the encoder reads the question before each window. Questions whose answer does not stand in the
    full
    text are left out. Shortening is by words alone, so that the figure shows the encoder and not the choice
    of units.
    """
    pairs = list(dict.fromkeys((record.context, record.question if asked else "") for record in records))
    texts, questions = [text for text, _ in pairs], [question for _, question in pairs]
    scores = dict(
        zip(pairs, score_texts(encoder, texts, device, window, questions if asked else ()), strict=True)
    )
    shortened = {
        (pair, rate): normalised(shorten_plainly(pair[0], scores[pair], rate))
        for pair in pairs
        for rate in RATES
    }
    whole = {text: normalised(text) for text in texts}
    hits: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        answers = [wanted for answer in record.answers if (wanted := normalised(answer))]
        if not any(answer in whole[record.context] for answer in answers):
            continue
        pair = (record.context, record.question if asked else "")
        for rate in RATES:
            hits[record.origin.source][rate].append(
                any(answer in shortened[pair, rate] for answer in answers)
            )
    return {
        source: {rate: float(np.mean(found)) for rate, found in by_rate.items()}
        for source, by_rate in hits.items()
    }
