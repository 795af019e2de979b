"""The tiny causal model, once for the folder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.evaluation.causal import CausalModel
from tests.compressor.evaluation.tiny_causal import save_causal


@pytest.fixture(scope="session")
def causal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("causal") / "tiny-lm")


@pytest.fixture(scope="session")
def causal(causal_folder: Path) -> CausalModel:
    return CausalModel.open(causal_folder)
