"""Batches that a device has no memory for, done in halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")


def in_halves(batch: Sequence[Any], do: Callable[[Sequence[Any]], list[Made]]) -> list[Made]:
    """`do` over the batch, or over its halves where the device has not the memory for all at once.

    Several processes may share a GPU, and none knows what the others need next. Raises
    torch.OutOfMemoryError where there is no room for a single one.
    """
    try:
        return do(batch)
    except torch.OutOfMemoryError:
        if len(batch) < 2:
            raise
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [*in_halves(batch[:middle], do), *in_halves(batch[middle:], do)]
