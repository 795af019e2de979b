"""Turn deletion pairs into labels: which words of the original did the teacher keep?

Algorithm 1 of the LLMLingua-2 paper (arXiv 2403.12968), on character offsets: each word of the shortened
text is looked for around the place of the last match, to the right and to the left by turns, inside a window;
a word of the original is taken at most once. Words match up to inflection (`matching.same_word`), in any
language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from compressor.training.matching import KnownWords, MatchWord, match_words, same_word
from compressor.training.records import Distilled, Labelled, LabelSpan

WINDOW = 150  # words; the paper's code. 400, its script's value, finds more wrong "the"s than right ones


@dataclass(frozen=True, slots=True)
class PairMetrics:
    """The paper's four measures of one pair (its equations 1 to 4), each 0..1 save the gap.

    variation: share of the shortened text's words that the original does not have (VR).
    hitting: words of the shortened text that the original has, over the original's words (HR).
    matching: words labelled as kept, over the original's words (MR).
    gap: hitting - matching (AG); 0 when every word that could be matched was.
    """

    variation: float
    hitting: float
    matching: float
    gap: float


def align(original: Sequence[MatchWord], shortened: Sequence[MatchWord], window: int = WINDOW) -> list[bool]:
    """Which words of the original are kept, by Algorithm 1."""
    kept = [False] * len(original)
    half = max(1, window // 2)
    previous = 0
    for word in shortened:
        for place in _around(previous, half, len(original)):
            if not kept[place] and same_word(original[place].folded, word.folded):
                kept[place] = True
                previous = min(place, previous + half)
                break
    return kept


def _around(centre: int, half: int, length: int) -> Iterator[int]:
    """Places by their distance from the centre, the right one first."""
    for distance in range(half + 1):
        if centre + distance < length:
            yield centre + distance
        if distance and centre - distance >= 0:
            yield centre - distance


def measure(
    original: Sequence[MatchWord], shortened: Sequence[MatchWord], kept: Sequence[bool]
) -> PairMetrics:
    """The paper's measures. An empty original has variation 1 if anything was written, else 0."""
    known = KnownWords(word.folded for word in original)
    found = sum(word.folded in known for word in shortened)
    size = max(1, len(original))
    variation = 1 - found / len(shortened) if shortened else 0.0
    hitting, matching = found / size, sum(kept) / size
    return PairMetrics(variation, hitting, matching, hitting - matching)


def annotate(pair: Distilled, window: int = WINDOW) -> Labelled:
    """The pair's original with a span for each run of kept words; marks between two kept words are kept."""
    text = pair.chunk.text
    original, shortened = match_words(text), match_words(pair.compressed)
    kept = align(original, shortened, window)
    spans: list[LabelSpan] = []
    before = False
    for word, keep in zip(original, kept, strict=True):
        if keep and before:
            spans[-1] = LabelSpan(spans[-1].start, word.end, 1.0)
        elif keep:
            spans.append(LabelSpan(word.start, word.end, 1.0))
        before = keep
    measured = measure(original, shortened, kept)
    metrics = {
        "variation": measured.variation,
        "hitting": measured.hitting,
        "matching": measured.matching,
        "gap": measured.gap,
    }
    return Labelled(pair.chunk.id, text, tuple(spans), pair.chunk.origin, metrics=metrics)


def annotate_all(pairs: Iterable[Distilled], window: int = WINDOW) -> Iterator[Labelled]:
    """`annotate` for each pair; pairs whose original has no words are left out."""
    return (annotate(pair, window) for pair in pairs if match_words(pair.chunk.text))
