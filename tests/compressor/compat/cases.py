"""Generated cases: texts and options from a fixed seed, so that a failing case keeps its number."""

from __future__ import annotations

import random
from typing import Any

from tests.compressor.compat.tiny_models import make_text

FORCE = ("\n", ".", "?", "!", ",", "budget", "the", "Speaker 1:", "the motion", "预算", "=", "The answer is")


def make_options(rng: random.Random, contexts: int) -> dict[str, Any]:
    """llmlingua's options, each now and then."""
    options: dict[str, Any] = {
        "rate": rng.choice((0.05, 0.1, 0.2, 0.33, 0.5, 0.5, 0.67, 0.8, 0.9, 0.97, 1.0, 1.3))
    }
    if rng.random() < 0.25:
        options["target_token"] = rng.choice((0, 5, 40, 170, 1000, 100_000))
    if rng.random() < 0.5:
        options["force_tokens"] = rng.sample(FORCE, rng.randint(1, 6))
    for name in ("force_reserve_digit", "drop_consecutive", "return_word_label"):
        if rng.random() < 0.4:
            options[name] = True
    if rng.random() < 0.3:
        options["token_to_word"] = "first"
    if rng.random() < 0.1:
        options["use_token_level_filter"] = False
    if rng.random() < 0.15:
        options["chunk_end_tokens"] = rng.choice(([], ["\n"], [".", "?", "\n"], ["▁the"]))
    if rng.random() < 0.1:
        options |= {"word_sep": " # ", "label_sep": "=>"}
    if contexts > 1 and rng.random() < 0.7:
        options |= make_filter_options(rng, contexts)
    return options


def make_filter_options(rng: random.Random, contexts: int) -> dict[str, Any]:
    options: dict[str, Any] = {"use_context_level_filter": True}
    how = rng.randint(0, 4)
    if how == 0:
        options["target_context"] = rng.randint(0, contexts + 1)
    elif how == 1:
        options["context_level_rate"] = rng.choice((0.2, 0.5, 0.9))
    elif how == 2:
        options["context_level_target_token"] = rng.choice((0, 50, 400))
    if rng.random() < 0.4:
        options["force_context_ids"] = rng.sample(range(contexts), rng.randint(0, contexts))
    return options


def make_cases(seed: int, count: int) -> list[dict[str, Any]]:
    """Most texts are short; every eighth is long enough for several windows."""
    rng = random.Random(seed)
    cases = []
    for number in range(count):
        contexts = rng.choice((1, 1, 1, 2, 3, 6))
        words = rng.randint(200, 700) if number % 8 == 0 else rng.randint(4, 90)
        context = [make_text(rng, max(3, words // contexts)) for _ in range(contexts)]
        if number % 50 == 0:
            context[0] = context[0].replace(".", "").replace("\n", " ")  # no place to end a window
        cases.append({"context": context, "options": make_options(rng, contexts)})
    return cases
