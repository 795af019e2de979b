"""The reader behind litellm, against servers on real sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.fake_upstream import ANSWER, Script, fake_upstream

# litellm warns while it is imported and keeps clients open, so it runs in a process of its own.
ASK = """
import json, sys
from compressor.evaluation.readers import ReaderOptions, open_reader
for url in sys.argv[1:]:
    options = ReaderOptions(base_url=url, api_key="sk-x", concurrency=2)
    replies = open_reader("litellm:openai/gpt-4o-mini", options).answer(["one", "two", "three"], 7)
    print("REPLIES", json.dumps([[r.text, r.error, r.prompt_tokens, r.seconds > 0] for r in replies]))
"""
REFUSAL = Script(400, {"content-type": "application/json"}, b'{"error": {"message": "nope", "type": "bad"}}')


def ask(*urls: str) -> list[list[tuple[str, str, int, bool]]]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, *urls],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line.removeprefix("REPLIES ") for line in done.stdout.splitlines() if line.startswith("REPLIES")]
    return [json.loads(line) for line in lines]


def test_every_prompt_is_asked_once_and_a_refusal_is_a_reply() -> None:
    with fake_upstream() as upstream, fake_upstream() as refusing:
        refusing.then(*[REFUSAL] * 30)
        good, bad = ask(upstream.url, refusing.url)
        assert [reply[:2] for reply in good] == [[ANSWER, ""]] * 3
        assert all(timed for _, _, _, timed in good), good
        assert all(tokens > 0 for _, _, tokens, _ in good), good
        asked = [seen.json for seen in upstream.seen]
        assert sorted(a["messages"][0]["content"] for a in asked) == ["one", "three", "two"]
        assert [(a["max_tokens"], a["temperature"]) for a in asked] == [(7, 0.0)] * 3
        assert [(text, "nope" in error) for text, error, _, _ in bad] == [("", True)] * 3, bad
