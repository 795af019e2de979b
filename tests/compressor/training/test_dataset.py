from __future__ import annotations

from pathlib import Path

import numpy as np

from compressor.training.dataset import UNKNOWN, SpecialIds, bucket, collate, label_tokens, windows
from compressor.training.encoder import open_tokenizer
from compressor.training.records import Labelled, LabelSpan, Origin
from tests.compressor.training.conftest import town_text

TEXT = town_text(1)


def labelled(question: str = "") -> Labelled:
    start = TEXT.index("1201")
    spans = (LabelSpan(start, start + 4, 1.0, True),)
    return Labelled("1", TEXT, spans, Origin("d"), unknown=((0, 12),), question=question)


def test_tokens_take_the_labels_of_their_characters(tiny_base: Path) -> None:
    tokenizer = open_tokenizer(tiny_base)
    labels = label_tokens(labelled(), tokenizer, 3)
    offsets = tokenizer.encode(TEXT, add_special_tokens=False).offsets
    kept = "".join(TEXT[a:b] for (a, b), keep in zip(offsets, labels.keep, strict=True) if keep == 1)
    unknown = [b for (a, b), keep in zip(offsets, labels.keep, strict=True) if keep == UNKNOWN and a != b]
    assert kept.strip() == "1201"
    assert set(labels.group[labels.keep == 1]) == {0}
    assert unknown
    assert min(b for (a, b), keep in zip(offsets, labels.keep, strict=True) if keep == 0) > 12
    assert labels.source == 3


def test_windows_hold_every_token_once_within_their_size(tiny_base: Path) -> None:
    labels = label_tokens(labelled("Who founded it?"), open_tokenizer(tiny_base), 0)
    cut = list(windows(labels, 40))
    assert [window.first for window in cut[1:]] == [window.last for window in cut[:-1]]
    assert (cut[0].first, cut[-1].last) == (0, len(labels.ids))
    assert max(len(window) for window in cut) <= 40


def test_padding_special_tokens_and_the_question_carry_no_label(tiny_base: Path) -> None:
    labels = label_tokens(labelled("Who?"), open_tokenizer(tiny_base), 0)
    first, *_, last = windows(labels, 40)
    batch = collate([first, last], SpecialIds(0, 2, 1))
    head = len(labels.question) + 3
    assert batch.ids[0, 0] == 0
    assert (batch.keep[:, :head] == UNKNOWN).all()
    assert (batch.keep[batch.mask == 0] == UNKNOWN).all()
    assert batch.mask.sum(1).tolist() == [len(first), len(last)]
    assert (batch.ids[batch.mask == 0] == 1).all()


def test_batches_hold_everything_once_within_their_tokens() -> None:
    random = np.random.default_rng(1)
    sizes = [int(size) for size in random.integers(5, 100, 300)]
    batches = bucket(sizes, 1000, random)
    assert sorted(at for batch in batches for at in batch) == list(range(300))
    assert all(max(sizes[at] for at in batch) * len(batch) <= 1000 for batch in batches)
    padded = sum(max(sizes[at] for at in batch) * len(batch) for batch in batches)
    assert padded < 1.25 * sum(sizes)
