"""The JSON lines that pass between the steps of training, one record a line, plain or gzip-compressed.

Every step reads the one before it and writes one file, so that a run can stop and go on anywhere. Unknown
keys of
a record are ignored; a line that is not what it should be is named by file and line number.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from compressor.errors import CompressorError


class InvalidRecord(CompressorError):
    """A line of a training file cannot be used; the message names file, line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a text comes from. `doc` names the document that a held-back split must not tear apart."""

    doc: str
    source: str = ""
    lang: str = ""
    lic: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, short enough for a teacher and for the encoder."""

    id: str
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Distilled:
    """A chunk and what a teacher made of it by deleting words."""

    chunk: Chunk
    compressed: str
    teacher: str


@dataclass(frozen=True, slots=True)
class LabelSpan:
    """`text[start:end]` should be kept with probability `keep`. `whole`: only of use if all of it is kept."""

    start: int
    end: int
    keep: float
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with its labels. What no span covers should be dropped (keep = 0), save where it is `unknown`.

    `question` is set when the labels hold for that question only. `metrics` carries what annotation measured.
    """

    id: str
    text: str
    spans: tuple[LabelSpan, ...]
    origin: Origin
    unknown: tuple[tuple[int, int], ...] = ()
    question: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answerable:
    """A context, a question and the answers that count as right: what quality is measured on."""

    id: str
    context: str
    question: str
    answers: tuple[str, ...]
    origin: Origin


def open_lines(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed when its name ends in `.gz`."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line. Raises InvalidRecord for a line that is no JSON
    object.
    """
    with open_lines(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InvalidRecord(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(value, dict):
                raise InvalidRecord(f"{path}:{number}: expected an object, found {type(value).__name__}")
            yield number, value


def text_of(value: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    """The string under `key`. Raises InvalidRecord when it is missing (and has no default) or no string."""
    found = value.get(key, default)
    if not isinstance(found, str):
        raise InvalidRecord(f"{where}: '{key}' must be a string")
    return found


def origin_of(value: Mapping[str, Any], where: str, text: str) -> Origin:
    """Origin of a record; without `doc` the text itself (its hash) is the document."""
    doc = value.get("doc")
    named = str(doc) if doc not in (None, "") else hashlib.sha256(text.encode()).hexdigest()[:16]
    plain = {key: value.get(key) for key in ("source", "lang", "lic")}
    wrong = [key for key, found in plain.items() if found is not None and not isinstance(found, str)]
    if wrong:
        raise InvalidRecord(f"{where}: '{wrong[0]}' must be a string")
    return Origin(named, plain["source"] or "", plain["lang"] or "", plain["lic"] or "")


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Records with `id` and `text`: chunks, or whole documents."""
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        text = text_of(value, "text", where)
        yield Chunk(str(value.get("id", number)), text, origin_of(value, where, text))


def read_distilled(path: Path) -> Iterator[Distilled]:
    """Records of the distilling step: chunks with `compressed` and `teacher`."""
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        text = text_of(value, "text", where)
        chunk = Chunk(str(value.get("id", number)), text, origin_of(value, where, text))
        compressed = text_of(value, "compressed", where)
        yield Distilled(chunk, compressed, text_of(value, "teacher", where, ""))


def read_labelled(path: Path) -> Iterator[Labelled]:
    """Records of the annotating step."""
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        text = text_of(value, "text", where)
        try:
            spans = tuple(LabelSpan(int(s[0]), int(s[1]), float(s[2]), bool(s[3])) for s in value["spans"])
            unknown = tuple((int(start), int(end)) for start, end in value.get("unknown", ()))
            metrics = {str(name): float(found) for name, found in value.get("metrics", {}).items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InvalidRecord(f"{where}: broken label spans: {error}") from None
        if any(not 0 <= span.start <= span.end <= len(text) for span in spans):
            raise InvalidRecord(f"{where}: a label span lies outside the text")
        question = text_of(value, "question", where, "")
        origin = origin_of(value, where, text)
        yield Labelled(str(value.get("id", number)), text, spans, origin, unknown, question, metrics)


def read_answerable(path: Path) -> Iterator[Answerable]:
    """Records with `context`, `question` and `answers` (a string or a list of strings)."""
    for number, value in read_objects(path):
        where = f"{path}:{number}"
        context = text_of(value, "context", where)
        answers = value.get("answers")
        found = [answers] if isinstance(answers, str) else answers
        if not isinstance(found, list) or not all(isinstance(answer, str) for answer in found):
            raise InvalidRecord(f"{where}: 'answers' must be a string or a list of strings")
        question = text_of(value, "question", where)
        origin = origin_of(value, where, context)
        yield Answerable(str(value.get("id", number)), context, question, tuple(found), origin)


def _origin_fields(origin: Origin) -> dict[str, str]:
    return {"doc": origin.doc, "source": origin.source, "lang": origin.lang, "lic": origin.lic}


def chunk_line(chunk: Chunk) -> bytes:
    """One line of a chunk file."""
    return orjson.dumps({"id": chunk.id, "text": chunk.text, **_origin_fields(chunk.origin)}) + b"\n"


def distilled_line(pair: Distilled) -> bytes:
    """One line of a distilled file."""
    value = {"id": pair.chunk.id, "text": pair.chunk.text, "compressed": pair.compressed}
    return orjson.dumps(value | {"teacher": pair.teacher} | _origin_fields(pair.chunk.origin)) + b"\n"


def answerable_line(record: Answerable) -> bytes:
    """One line of a question-and-answer file."""
    value: dict[str, Any] = {"id": record.id, "context": record.context, "question": record.question}
    return orjson.dumps(value | {"answers": list(record.answers)} | _origin_fields(record.origin)) + b"\n"


def labelled_line(record: Labelled) -> bytes:
    """One line of a labelled file; a span is `[start, end, keep, whole]`."""
    value: dict[str, Any] = {"id": record.id, "text": record.text, **_origin_fields(record.origin)}
    value["spans"] = [[span.start, span.end, round(span.keep, 4), span.whole] for span in record.spans]
    optional = {"unknown": list(record.unknown), "question": record.question, "metrics": dict(record.metrics)}
    return orjson.dumps(value | {key: found for key, found in optional.items() if found}) + b"\n"


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Writes the file whole or not at all (through a temporary name beside it); returns the number of
    lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    count = 0
    with gzip.open(part, "wb", 6) if path.suffix == ".gz" else part.open("wb") as out:
        for line in lines:
            out.write(line)
            count += 1
    part.replace(path)
    return count


def is_held_back(origin: Origin, share: float) -> bool:
    """Whether a document belongs to the held-back part. By the hash of its name: the same in every run and
    source,
    so that one article never lands on both sides, in whatever set or language it appears."""
    digest = hashlib.sha256(origin.doc.strip().lower().encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
