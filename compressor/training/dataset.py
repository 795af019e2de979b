"""Labelled texts as token windows, and windows as batches bounded by tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from compressor.training.chunks import sentence_spans
from compressor.training.records import Labelled

UNKNOWN = -1.0  # label of a token that says nothing: outside the loss
NO_GROUP = -1
TOKENISED_TOGETHER = 256  # texts: enough for every core, little memory
SENTENCE_SLACK = 0.4  # a window may end this share early to end at a sentence


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """One tokenised text. Arrays have one entry a token, special tokens not among them."""

    ids: NDArray[np.int32]
    keep: NDArray[np.float32]  # 0..1, or UNKNOWN
    group: NDArray[np.int32]  # tokens of one answer share a number; NO_GROUP elsewhere
    ends: NDArray[np.bool_]  # whether a sentence begins with this token
    question: NDArray[np.int32]  # ids of the question that the labels hold for; empty: for none
    source: int  # index of the data source


@dataclass(frozen=True, slots=True)
class Window:
    """A run of tokens of one text that the encoder reads at once."""

    labels: TokenLabels
    first: int
    last: int

    def __len__(self) -> int:
        question = len(self.labels.question)
        return self.last - self.first + 2 + (question + 2 if question else 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded tensors, [windows, longest]: ids, mask (1: a token), keep (UNKNOWN: no loss), group."""

    ids: torch.Tensor
    mask: torch.Tensor
    keep: torch.Tensor
    group: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        tensors = (self.ids, self.mask, self.keep, self.group)
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def label_texts(records: Iterable[Labelled], tokenizer: Tokenizer, source: int) -> Iterator[TokenLabels]:
    """The records' labels on their tokens, in order; texts are tokenised in groups, on all cores."""
    waiting = iter(records)
    while group := list(islice(waiting, TOKENISED_TOGETHER)):
        encodings = tokenizer.encode_batch([record.text for record in group], add_special_tokens=False)
        for record, encoding in zip(group, encodings, strict=True):
            yield label_tokens(record, tokenizer, source, encoding)


def label_tokens(
    record: Labelled, tokenizer: Tokenizer, source: int, encoding: Encoding | None = None
) -> TokenLabels:
    """The record's labels on its tokens: the mean of a token's characters, white space left out.

    `encoding` is the text's, without special tokens, where it is known already.
    """
    if encoding is None:
        encoding = tokenizer.encode(record.text, add_special_tokens=False)
    asked = tokenizer.encode(record.question, add_special_tokens=False).ids if record.question else []
    size = len(record.text)
    keep = np.zeros(size, np.float64)
    group = np.full(size, NO_GROUP, np.int32)
    for number, span in enumerate(record.spans):
        keep[span.start : span.end] = np.maximum(keep[span.start : span.end], span.keep)
        if span.whole:
            group[span.start : span.end] = number
    unknown = np.zeros(size, bool)
    for start, end in record.unknown:
        unknown[start:end] = True
    begins = np.zeros(size + 1, bool)
    begins[[start for start, _ in sentence_spans(record.text)]] = True
    solid = ~_white_space(record.text)
    starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
    count = _inside(solid, starts, ends)
    silent = (count == 0) | (_inside(unknown, starts, ends) > 0)
    first = np.append(_next_true(solid), size)[starts].clip(max=max(size - 1, 0))
    mean = _inside(keep * solid, starts, ends) / count.clip(min=1)
    return TokenLabels(
        ids=np.array(encoding.ids, np.int32),
        keep=np.where(silent, UNKNOWN, mean).astype(np.float32),
        group=np.where(silent, NO_GROUP, group[first]).astype(np.int32) if size else group,
        ends=begins[first],
        question=np.array(asked, np.int32),
        source=source,
    )


def _white_space(text: str) -> NDArray[np.bool_]:
    """Which characters `str.isspace` names, one entry a character."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.isin(codes, [ord(character) for character in set(text) if character.isspace()])


def _inside(values: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of `values[start:end]`."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    found: NDArray[np.float64] = sums[ends] - sums[starts]
    return found


def _next_true(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each place the first true place at or behind it; the length where there is none."""
    places = np.where(flags, np.arange(len(flags)), len(flags))
    found: NDArray[np.int64] = np.minimum.accumulate(places[::-1])[::-1]
    return found


def windows(labels: TokenLabels, size: int) -> Iterator[Window]:
    """Windows of at most `size` tokens, the question and special tokens counted, that end at sentences."""
    question = len(labels.question)
    room = size - 2 - (question + 2 if question else 0)
    first, count = 0, len(labels.ids)
    while count - first > room:
        low = first + round(room * (1 - SENTENCE_SLACK))
        begins = np.flatnonzero(labels.ends[low : first + room + 1])
        last = low + int(begins[-1]) if len(begins) else first + room
        yield Window(labels, first, last)
        first = last
    if count > first:
        yield Window(labels, first, count)


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids that frame an input: `<s> text </s>`, or `<s> question </s> </s> text </s>`, padded."""

    first: int
    last: int
    pad: int


def collate(chosen: Sequence[Window], special: SpecialIds) -> Batch:
    """The windows as one padded batch; special tokens, padding and the question carry no label."""
    longest = max(len(window) for window in chosen)
    shape = (len(chosen), longest)
    ids = np.full(shape, special.pad, np.int64)
    mask = np.zeros(shape, np.int64)
    keep = np.full(shape, UNKNOWN, np.float32)
    group = np.full(shape, NO_GROUP, np.int64)
    for row, window in enumerate(chosen):
        labels = window.labels
        head = [special.first]
        if len(labels.question):
            head = [special.first, *labels.question.tolist(), special.last, special.last]
        start, length = len(head), window.last - window.first
        ids[row, :start] = head
        ids[row, start : start + length] = labels.ids[window.first : window.last]
        ids[row, start + length] = special.last
        mask[row, : start + length + 1] = 1
        keep[row, start : start + length] = labels.keep[window.first : window.last]
        group[row, start : start + length] = labels.group[window.first : window.last]
    return Batch(*(torch.from_numpy(array) for array in (ids, mask, keep, group)))


def bucket(
    sizes: Sequence[int], tokens: int, random: np.random.Generator, spread: float = 0.1
) -> list[list[int]]:
    """Batches of indices, each at most `tokens` tokens with its padding, in random order.

    Like sizes share a batch; `spread` blurs the order so that batches differ from one epoch to the next.
    """
    noisy = np.array(sizes) * (1 + spread * random.standard_normal(len(sizes)))
    batches: list[list[int]] = []
    waiting: list[int] = []
    longest = 0
    for at in np.argsort(noisy, kind="stable"):
        longest_then = max(longest, sizes[at])
        if waiting and longest_then * (len(waiting) + 1) > tokens:
            batches.append(waiting)
            waiting, longest_then = [], sizes[at]
        waiting.append(int(at))
        longest = longest_then
    if waiting:
        batches.append(waiting)
    random.shuffle(batches)
    return batches
