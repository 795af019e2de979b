"""Answer kept: how often a right answer still stands in the shortened text. Needs no reader LLM."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.training.encoder import Encoder, cut_texts, score_pieces
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
    return _shortened(text, _words(text), scores, rate)


def _words(text: str) -> NDArray[np.int64]:
    return np.array([found.span() for found in _UNIT.finditer(text)], np.int64).reshape(-1, 2)


def _shortened(text: str, words: NDArray[np.int64], scores: NDArray[np.float32], rate: float) -> str:
    if not len(words):
        return ""
    starts, ends = words.T
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    counts = np.concatenate([[0], np.cumsum(scores > 0)])
    means = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts]).clip(min=1)
    best = np.argsort(-means, kind="stable")
    fitting = best[np.cumsum((ends - starts)[best]) <= rate * len(text)]
    return "".join(text[starts[at] : ends[at]] for at in np.sort(fitting))


class KeptMeasure:
    """How often a right answer survives, on fixed questions: everything but the scores is worked out once.

    `asked`: the encoder reads the question before each window. Questions whose answer does not stand in the
    full text are left out. Shortening is by words alone, so that the figure shows the encoder and not the
    choice of units.
    """

    def __init__(
        self, encoder: Encoder, records: Sequence[Answerable], window: int = 256, *, asked: bool = False
    ) -> None:
        self._places: dict[tuple[str, str], int] = {}
        self._cases: list[tuple[str, int, list[str]]] = []  # source, text, its right answers
        whole: dict[str, str] = {}
        for record in records:
            text = whole.setdefault(record.context, normalised(record.context))
            answers = [wanted for answer in record.answers if (wanted := normalised(answer))]
            if any(answer in text for answer in answers):
                pair = (record.context, record.question if asked else "")
                at = self._places.setdefault(pair, len(self._places))
                self._cases.append((record.origin.source, at, answers))
        self._texts = [text for text, _ in self._places]
        self._words = [_words(text) for text in self._texts]
        questions = [question for _, question in self._places]
        self._pieces = cut_texts(encoder, self._texts, window, questions if asked else ())

    def of(self, encoder: Encoder, device: torch.device) -> dict[str, dict[float, float]]:
        """For each source: the share of its questions whose answer survives, by rate."""
        scores = score_pieces(encoder, self._pieces, [len(text) for text in self._texts], device)
        hits: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for rate in RATES:
            shortened = [
                normalised(_shortened(text, words, own, rate))
                for text, words, own in zip(self._texts, self._words, scores, strict=True)
            ]
            for source, at, answers in self._cases:
                hits[source][rate].append(any(answer in shortened[at] for answer in answers))
        return {
            source: {rate: float(np.mean(found)) for rate, found in by_rate.items()}
            for source, by_rate in hits.items()
        }


def mean_kept(kept: Mapping[str, Mapping[float, float]]) -> float:
    """One figure for everything: each source counts alike, and each rate of it. 0 for nothing."""
    return float(np.mean([[*by_rate.values()] for by_rate in kept.values()])) if kept else 0.0


def share_kept(
    encoder: Encoder,
    records: Sequence[Answerable],
    device: torch.device,
    window: int = 256,
    *,
    asked: bool = False,
) -> dict[str, dict[float, float]]:
    """For each source: the share of answerable questions whose answer survives, by rate (see KeptMeasure)."""
    return KeptMeasure(encoder, records, window, asked=asked).of(encoder, device)
