"""Runs llmlingua 0.2.2 on generated cases: `python reference.py CASES.json ANSWERS.json`.

In a process of its own, because llmlingua seeds every global generator, sets environment variables and warns
when it is imported.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def answer(compressor: Any, case: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(compressor.compress_prompt_llmlingua2(case["context"], **case["options"]))
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return {"error": type(error).__name__}


def main(cases_file: Path, answers_file: Path) -> None:
    from llmlingua import PromptCompressor  # type: ignore[import-untyped]

    answers = []
    compressors: dict[str, Any] = {}
    for case in json.loads(cases_file.read_text(encoding="utf-8")):
        folder = case["folder"]
        if folder not in compressors:
            compressors[folder] = PromptCompressor(folder, device_map="cpu", use_llmlingua2=True)
        answers.append(answer(compressors[folder], case))
    answers_file.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
