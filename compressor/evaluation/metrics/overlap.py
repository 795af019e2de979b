"""ROUGE and BLEU against references, in plain Python so that no stemmer or download is needed.

ROUGE is F1 without stemming; BLEU is sentence BLEU-4 with Lin and Och's (2004) smoothing, add one to the
precisions above unigrams. Chinese, Japanese and Thai are counted by character.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from compressor.evaluation.metrics.answers import UNSPACED

WORD = re.compile(r"\w+")
ORDERS = 4


def words_of(text: str) -> list[str]:
    """Lower-cased words; characters in scripts without spaces."""
    return WORD.findall(UNSPACED.sub(r" \1 ", text.lower()))


def grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` words occurs."""
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def f_measure(common: int, said: int, wanted: int) -> float:
    """F1 of what is common to what was said and what was wanted; 0 where nothing is."""
    return 2 * common / (said + wanted) if common else 0.0


def rouge_n(text: str, references: Sequence[str], order: int) -> float:
    """The best ROUGE-`order` F1 against any reference."""
    said = grams(words_of(text), order)
    best = 0.0
    for reference in references:
        wanted = grams(words_of(reference), order)
        best = max(best, f_measure(sum((said & wanted).values()), sum(said.values()), sum(wanted.values())))
    return best


def rouge_l(text: str, references: Sequence[str]) -> float:
    """The best ROUGE-L F1 (longest common subsequence of words) against any reference."""
    said = words_of(text)
    wanted = [words_of(reference) for reference in references]
    return max((f_measure(common_length(said, w), len(said), len(w)) for w in wanted), default=0.0)


def common_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004): one integer step per word."""
    if not left or not right:
        return 0
    places: dict[str, int] = {}
    for at, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(left)) - 1
    row = full
    for word in right:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(left) - row.bit_count()


def bleu(text: str, references: Sequence[str]) -> float:
    """Smoothed sentence BLEU-4, 0..1; the brevity penalty takes the reference closest in length."""
    said = words_of(text)
    wanted = [words_of(reference) for reference in references]
    if not said or not any(wanted):
        return 0.0
    log_sum = 0.0
    for order in range(1, ORDERS + 1):
        mine = grams(said, order)
        allowed: Counter[tuple[str, ...]] = Counter()
        for reference in wanted:
            allowed |= grams(reference, order)
        hits, total = sum((mine & allowed).values()), sum(mine.values())
        if order > 1:
            hits, total = hits + 1, total + 1
        if hits == 0:
            return 0.0
        log_sum += math.log(hits / total) / ORDERS
    closest = min((abs(len(r) - len(said)), len(r)) for r in wanted)[1]
    penalty = min(0.0, 1 - closest / len(said))
    return math.exp(log_sum + penalty)
