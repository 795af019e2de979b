"""Labels that need no teacher: from questions and answers, summaries, highlights, and deletion pairs.

Each turns a line of some public form into Labelled records on character offsets.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from compressor.training.chunks import sentence_spans
from compressor.training.matching import everyday_words, shared_spans
from compressor.training.records import (
    Answerable,
    InvalidRecord,
    Labelled,
    LabelSpan,
    Origin,
    origin_of,
    read_objects,
    text_of,
)

ANSWER_KEEP = 1.0
QUESTION_KEEP = 0.7  # a word that questions share: needed to find the answer, but not as surely as the answer
ANSWER_SENTENCE_KEEP = 0.5  # readers fail on bare answers: the sentence around it goes last
SHARED_KEEP = 0.3  # a word of the question in a sentence without the answer: a bridge to it, at times
SUMMARY_KEEP = 0.8
MOST_OCCURRENCES = 4  # an answer that occurs more often ("he", "2") says little about any one place
_DOCUMENT = re.compile(r"^Document \[\d+\]", re.MULTILINE)


def answer_spans(text: str, answer: str) -> list[tuple[int, int]]:
    """Where the answer stands in the text as whole words, ignoring case; the first MOST_OCCURRENCES
    places.
    """
    wanted = answer.strip()
    if not wanted:
        return []
    left = r"(?<!\w)" if wanted[0].isascii() and wanted[0].isalnum() else ""
    right = r"(?!\w)" if wanted[-1].isascii() and wanted[-1].isalnum() else ""
    pattern = re.compile(left + re.escape(wanted) + right, re.IGNORECASE)
    found = [match.span() for match in pattern.finditer(text)]
    return found if len(found) <= MOST_OCCURRENCES else found[:1]


def documents_of(context: str) -> list[str]:
    """The documents of a retrieval context (`Document [1](Title: …) …`), or the context itself."""
    starts = [found.start() for found in _DOCUMENT.finditer(context)]
    if len(starts) < 2:
        return [context]
    ends = [*starts[1:], len(context)]
    return [context[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def label_answers(
    records: Iterable[Answerable], with_sentence: frozenset[str] = frozenset()
) -> Iterator[Labelled]:
    """One record for each text that holds an answer: words in an answer, or shared with a question, are kept.

    All questions about one text label it together. Of a retrieval context only the documents that hold an
    answer
    are used: what others could ask of the rest is not known. Of the questions in `with_sentence` (ids) the
    sentence around the answer is kept too, with less weight.
    """
    everything = list(records)
    by_language: dict[str, list[str]] = defaultdict(list)
    for record in everything:
        by_language[record.origin.lang].append(record.question)
    everyday = {lang: everyday_words(questions) for lang, questions in by_language.items()}
    by_text: dict[str, list[Answerable]] = defaultdict(list)
    for record in everything:
        for document in documents_of(record.context):
            if any(answer_spans(document, answer) for answer in record.answers):
                by_text[document].append(record)
    for text, askers in by_text.items():
        first = askers[0]
        spans = [span for one in askers for span in _question_labels(text, one, everyday[one.origin.lang])]
        spans += [span for one in askers if one.id in with_sentence for span in _sentence_labels(text, one)]
        yield Labelled(first.id, text, tuple(spans), first.origin)


def _question_labels(text: str, record: Answerable, everyday: frozenset[str]) -> Iterator[LabelSpan]:
    for answer in dict.fromkeys(record.answers):
        for start, end in answer_spans(text, answer):
            yield LabelSpan(start, end, ANSWER_KEEP, whole=True)
    for start, end in shared_spans(text, record.question, everyday):
        yield LabelSpan(start, end, QUESTION_KEEP)


def _sentence_labels(text: str, record: Answerable) -> Iterator[LabelSpan]:
    places = [start for answer in record.answers for start, _ in answer_spans(text, answer)]
    for start, end in sentence_spans(text):
        if any(start <= place < end for place in places):
            yield LabelSpan(start, end, ANSWER_SENTENCE_KEEP)


def label_for_questions(records: Iterable[Answerable]) -> Iterator[Labelled]:
    """One record for each question whose answer stands in its context, labelled for that question alone.

    The answer is kept for certain, the rest of its sentence and words shared with the question probably,
    other
    sentences not. The whole context is used, documents without an answer too: for this question they are
    noise.
    """
    everything = list(records)
    everyday = everyday_words(record.question for record in everything)
    for record in everything:
        text = record.context
        found = sorted({span for answer in record.answers for span in answer_spans(text, answer)})
        if not found or not record.question.strip():
            continue
        sentences = [
            (start, end)
            for start, end in sentence_spans(text)
            if any(start <= place < end for place, _ in found)
        ]
        spans = [LabelSpan(start, end, ANSWER_SENTENCE_KEEP) for start, end in sentences]
        spans += [LabelSpan(start, end, ANSWER_KEEP, whole=True) for start, end in found]
        spans += [
            LabelSpan(start, end, QUESTION_KEEP if any(a <= start < b for a, b in sentences) else SHARED_KEEP)
            for start, end in shared_spans(text, record.question, everyday)
        ]
        yield Labelled(f"{record.id}?", text, tuple(spans), record.origin, question=record.question)


def label_summaries(records: Iterable[Answerable]) -> Iterator[Labelled]:
    """Words of the context that its summaries (the answers) say again are kept."""
    everything = list(records)
    everyday = everyday_words(answer for record in everything for answer in record.answers)
    for record in everything:
        spans = {span for answer in record.answers for span in shared_spans(record.context, answer, everyday)}
        labels = tuple(LabelSpan(start, end, SUMMARY_KEEP) for start, end in sorted(spans))
        if labels:
            yield Labelled(record.id, record.context, labels, record.origin)


def label_highlights(path: Path, licence: str = "") -> Iterator[Labelled]:
    """Records with `text` and `kept_spans` ([start, end) in characters), as people highlight.

    `licence` stands in for records that name none. Raises InvalidRecord.
    """
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        text = text_of(value, "text", where)
        try:
            spans = tuple(LabelSpan(int(start), int(end), 1.0) for start, end in value["kept_spans"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRecord(f"{where}: 'kept_spans' must be a list of [start, end]: {error}") from None
        yield Labelled(str(value.get("id", number)), text, spans, _licensed(value, where, text, licence))


def label_turns(path: Path, licence: str = "") -> Iterator[Labelled]:
    """Records with `turns` and `queries` ({question, answer, turn_spans}): relevance spans of long dialogues.

    One record a query, labelled for its question (all of its turns are kept), and one for all of them
    together:
    words of a relevant turn that the answer says again. Raises InvalidRecord.
    """
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        try:
            turns = [str(turn) for turn in value["turns"]]
            queries = [
                (str(q["question"]), str(q["answer"]), [(int(a), int(b)) for a, b in q["turn_spans"]])
                for q in value["queries"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRecord(f"{where}: broken turns or queries: {error}") from None
        text = "\n".join(turns)
        starts = [0]
        for turn in turns:
            starts.append(starts[-1] + len(turn) + 1)
        origin = _licensed(value | {"doc": value.get("id")}, where, text, licence)
        name = str(value.get("id", number))
        yield from _turn_labels(name, text, starts, queries, origin)


def _turn_labels(
    name: str,
    text: str,
    starts: Sequence[int],
    queries: Sequence[tuple[str, str, list[tuple[int, int]]]],
    origin: Origin,
) -> Iterator[Labelled]:
    everyday = everyday_words(text.splitlines())
    together: list[LabelSpan] = []
    for at, (question, answer, turn_spans) in enumerate(queries):
        inside = [
            (starts[a], min(starts[b + 1], len(text))) for a, b in turn_spans if 0 <= a <= b < len(starts) - 1
        ]
        covered = sum(end - start for start, end in inside)
        if not inside or covered > len(text) / 2:  # a question about the whole meeting marks nothing
            continue
        for start, end in inside:
            shared = shared_spans(text[start:end], f"{question} {answer}", everyday)
            together += [LabelSpan(start + a, start + b, SUMMARY_KEEP) for a, b in shared]
        relevant = tuple(LabelSpan(start, end, 1.0) for start, end in inside)
        yield Labelled(f"{name}?{at}", text, relevant, origin, question=question)
    if together:
        yield Labelled(name, text, tuple(sorted(set(together), key=lambda span: span.start)), origin)


def label_deletions(path: Path, licence: str = "") -> Iterator[Labelled]:
    """Records with `text` and `kept` (0 or 1 a white-space word): sentences and their shortened form."""
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        text = text_of(value, "text", where)
        words = list(re.finditer(r"\S+", text))
        kept = value.get("kept")
        if not isinstance(kept, list) or len(kept) != len(words):
            raise InvalidRecord(f"{where}: 'kept' must have one entry for each of the {len(words)} words")
        spans = tuple(
            LabelSpan(word.start(), word.end(), float(keep))
            for word, keep in zip(words, kept, strict=True)
            if keep
        )
        yield Labelled(str(value.get("id", number)), text, spans, _licensed(value, where, text, licence))


def _licensed(value: dict[str, object], where: str, text: str, licence: str) -> Origin:
    origin = origin_of(value, where, text)
    return origin if origin.lic else replace(origin, lic=licence)
