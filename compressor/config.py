"""What a compressor is opened with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"]


@dataclass(frozen=True, slots=True)
class CompressorConfig:
    """The encoder and how it runs. None leaves a number to the device's default (`docs/encoders.md`)."""

    model: str = "default"  # "default" (embedded), a folder, or a Hugging Face name that is already on disk
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    precision: Precision = "auto"  # auto: bf16 on a GPU, the fastest faithful one on a CPU
    window_tokens: int | None = None  # encoder tokens that see each other, special tokens included
    max_batch_tokens: int | None = None  # encoder tokens of one pass
    max_waiting_tokens: int | None = None  # beyond it the engine answers Overloaded
    threads: int | None = None  # CPU threads of the encoder; None: all cores of this process
