"""The same words as the installed llmlingua 0.2.2, over hundreds of generated cases of both families."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compressor.compat import LLMLinguaOptions, compress_llmlingua, prepare, select
from compressor.compat.model import LLMLinguaModel
from compressor.errors import CompressorError
from tests.compressor.compat.cases import make_cases

CASES = 200  # for each family
FAMILIES = ("xlmr", "mbert")
Answered = list[tuple[dict[str, Any], dict[str, Any]]]


def tokenizer_files() -> str:
    """The folder of tiktoken files in litellm's wheel, found without importing litellm."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")


@pytest.fixture(scope="module")
def answered(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answered]:
    """Every case with llmlingua's answer, from one subprocess."""
    work = tmp_path_factory.mktemp("reference")
    cases = {family: make_cases(seed, CASES) for seed, family in enumerate(FAMILIES)}
    flat = [{**case, "folder": str(model_folders[family])} for family in FAMILIES for case in cases[family]]
    (work / "cases.json").write_text(json.dumps(flat), encoding="utf-8")
    script = Path(__file__).with_name("reference.py")
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": tokenizer_files(), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(work / "cases.json"), str(work / "answers.json")],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = iter(json.loads((work / "answers.json").read_text(encoding="utf-8")))
    return {family: [(case, next(answers)) for case in cases[family]] for family in FAMILIES}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(
    family: str, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> LLMLinguaModel:
    """The same weights in a folder whose name says nothing of the family."""
    folder = tmp_path_factory.mktemp("plain") / "encoder"
    shutil.copytree(model_folders[family], folder)
    return LLMLinguaModel.open(folder)


def test_same_answer_in_every_case_that_llmlingua_answers(
    family: str, model: LLMLinguaModel, answered: dict[str, Answered]
) -> None:
    compared = 0
    for number, (case, expected) in enumerate(answered[family]):
        if "error" in expected:
            continue
        result = compress_llmlingua(model, case["context"], **case["options"]).as_dict()
        assert result == expected, f"case {number}: {case['options']}"
        compared += 1
    assert compared >= 0.85 * CASES


def test_nothing_but_our_own_errors_where_llmlingua_crashes(
    family: str, model: LLMLinguaModel, answered: dict[str, Answered]
) -> None:
    crashed = [(case, expected) for case, expected in answered[family] if "error" in expected]
    for case, expected in crashed:
        try:
            result = compress_llmlingua(model, case["context"], **case["options"])
        except CompressorError:
            continue
        assert result.origin_tokens >= result.compressed_tokens or "force_tokens" in case["options"], expected


def test_one_scoring_serves_every_rate(
    family: str, model: LLMLinguaModel, answered: dict[str, Answered]
) -> None:
    case = answered[family][0][0]
    options = LLMLinguaOptions(force_tokens=("\n",))
    prepared = prepare(model, case["context"], options)
    sizes = []
    for rate in (0.2, 0.5, 0.8):
        chosen = LLMLinguaOptions(force_tokens=("\n",), rate=rate)
        result = select(prepared, chosen)
        assert result == compress_llmlingua(model, case["context"], rate=rate, force_tokens=["\n"])
        sizes.append(result.compressed_tokens)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
