"""A batch that is too large for the device is done in halves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from compressor.halving import in_halves


def test_a_batch_that_is_too_large_for_the_device_is_done_in_halves() -> None:
    asked = []

    def do(batch: Sequence[int]) -> list[int]:
        asked.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        return [2 * one for one in batch]

    assert in_halves(list(range(9)), do) == [2 * one for one in range(9)]
    assert asked == [9, 4, 2, 2, 5, 2, 3]

    def never(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        in_halves([1, 2], never)
