"""Question answering: exact match as the LLMLingua papers count it, F1 as SQuAD does, and "answer kept"."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts written without spaces: every character is a token, as in the SQuAD-style scripts for Chinese.
UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f])")
LOOSELY_SPACED = re.compile(
    r"[\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
PUNCTUATION = set(string.punctuation)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
FINAL_ANSWER = re.compile(r"answer is:?", re.IGNORECASE)


def normalise(text: str) -> str:
    """Lower case, NFKC, without punctuation and English articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", bare_words(text)).split())


def bare_words(text: str) -> str:
    """Lower case, NFKC, without punctuation, single spaces; "(A)" stays an "a"."""
    folded = unicodedata.normalize("NFKC", text).lower()
    bare = "".join(" " if c in PUNCTUATION or unicodedata.category(c).startswith("P") else c for c in folded)
    return " ".join(bare.split())


def answer_tokens(text: str) -> list[str]:
    """Normalised words; each character by itself in scripts without spaces."""
    return UNSPACED.sub(r" \1 ", normalise(text)).split()


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether any gold answer, normalised, is a substring of the text, normalised.

    Spaces do not count in answers that have Korean, Chinese, Japanese or Thai letters: writers, readers and
    tokenizers set them as they like there.
    """
    inside = normalise(text)
    dense = inside.replace(" ", "")
    for answer in answers:
        gold = normalise(answer)
        if not gold:  # only an article or a sign
            gold, within = answer.strip().lower(), text.lower()
        elif LOOSELY_SPACED.search(gold):
            gold, within = gold.replace(" ", ""), dense
        else:
            within = inside
        if gold and gold in within:
            return True
    return False


def first_line(answer: str) -> str:
    """The answer's first line that is not blank."""
    return next((line for line in answer.splitlines() if line.strip()), "")


def exact_match(answer: str, answers: Sequence[str]) -> float:
    """1.0 when a gold answer is contained in the answer's first line (the papers' "EM"), else 0.0."""
    return float(contains_answer(first_line(answer), answers))


def f1(answer: str, answers: Sequence[str]) -> float:
    """The best token F1 of the answer's first line against any gold answer (SQuAD's definition)."""
    said = answer_tokens(first_line(answer))
    return max((overlap_f1(said, answer_tokens(gold)) for gold in answers), default=0.0)


def overlap_f1(said: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over token multisets."""
    if not said or not gold:
        return float(list(said) == list(gold))
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold))


def reasoned_answer(answer: str) -> str:
    """What a chain of thought ends in: what follows the last "answer is", else the last number or line."""
    _, *after = FINAL_ANSWER.split(answer)
    if after and (line := first_line(after[-1]).strip()):
        return line.rstrip(".")
    numbers = NUMBER.findall(answer)
    if numbers:
        return str(numbers[-1])
    return answer.strip().splitlines()[-1] if answer.strip() else ""


def reasoning_match(answer: str, answers: Sequence[str]) -> float:
    """1.0 when a chain of thought ends in a gold answer: as a number where gold is one, else as words."""
    final = reasoned_answer(answer)
    for gold in answers:
        if NUMBER.fullmatch(gold.strip().replace("$", "")):
            said = NUMBER.findall(final)
            if said and to_number(said[0]) == to_number(gold.strip().replace("$", "")):
                return 1.0
        elif (wanted := bare_words(gold)) and f" {wanted} " in f" {bare_words(final)} ":
            return 1.0
    return 0.0


def to_number(text: str) -> float:
    """The number, thousands separators taken out. Raises ValueError."""
    return float(text.replace(",", ""))
