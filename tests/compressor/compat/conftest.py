"""Both tiny models, once for the folder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compressor.compat.tiny_models import save_mbert, save_xlmr


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The path's spelling selects the family in llmlingua, so the folders are named as it wants them."""
    root = tmp_path_factory.mktemp("compat")
    return {
        "xlmr": save_xlmr(root / "tiny-xlm-roberta-large"),
        "mbert": save_mbert(root / "tiny-bert-base-multilingual-cased"),
    }
