"""From configuration to a running engine."""

from __future__ import annotations

from compressor.config import CompressorConfig
from compressor.engine.engine import Engine
from compressor.engine.protocol import ScoringEngine


def open_engine(config: CompressorConfig | None = None) -> ScoringEngine:
    """Loads the model and starts its thread. Imports torch only when the model or the device needs it.

    Raises ModelLoadFailed when there is no such model, no such device, or the folder is no token classifier.
    """
    from compressor.model.loading import open_model

    model = open_model(config or CompressorConfig())
    return Engine(model.scorer, model.tokenizer, model.shape, model.limits, model.ranking)


def count_gpus() -> int:
    """How many GPUs torch sees; 0 without torch."""
    from compressor.model import loading

    return loading.count_gpus()


def check_model(config: CompressorConfig) -> None:
    """Finds the model and reads its config.json only. Raises ModelLoadFailed as `open_engine` does."""
    from compressor.model.description import describe_model
    from compressor.model.loading import find_folder

    describe_model(find_folder(config.model))
