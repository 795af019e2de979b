"""Treatments by kind of text (first stage: prose only)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.text.units import Units
from compressor.text.words import Words


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one passage is shortened: what stays, its units, the scores that decide, and the check."""

    codes: NDArray[np.uint8]
    sentence: NDArray[np.int32]
    scores: NDArray[np.float32]
    validate: Callable[[str, str], str]


def treat(
    words: Words,
    units: Units,
    scores: NDArray[np.float32],
    codes: NDArray[np.uint8],
    kind: str,
    protect: frozenset[str],
) -> Treatment:
    """The treatment of one passage."""
    return Treatment(codes, units.sentence, scores, lambda original, shortened: "")
