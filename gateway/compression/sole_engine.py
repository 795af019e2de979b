"""The engine of a process that does nothing but score: the interpreter is set for it."""

from __future__ import annotations

import gc
import sys

from compressor.config import CompressorConfig
from compressor.engine.protocol import ScoringEngine
from compressor.startup import open_engine

# The tokenising threads and the encoder's thread take turns; Python's default of 5 ms a turn is longer than
# the whole pass over a prompt on a GPU.
_SWITCH_SECONDS = 0.0005
# Tokens come as tuples, ten thousand a prompt: enough to have Python look for cycles all the time.
_GARBAGE_OBJECTS = 100_000


def open_sole_engine(config: CompressorConfig) -> ScoringEngine:
    """As `open_engine`, in `terse compressor serve` and in each replica of a fleet."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    engine = open_engine(config)
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS)
    return engine
