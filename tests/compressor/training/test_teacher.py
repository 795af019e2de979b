"""Teachers behind a real socket: retries, rate limits, garbage, and many workers by Ray Data."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from compressor.errors import ModelLoadFailed
from compressor.training.instructions import prompt_for
from compressor.training.teacher import LocalTeacher, Reply, ServiceOptions, ServiceTeacher
from tests.compressor.training.conftest import questions, town_text, write_rows

ROOT = Path(__file__).parents[3]


class Service(ThreadingHTTPServer):
    """Answers like OpenAI's API: the text's first words; fails the first `failures` requests."""

    daemon_threads = True

    def __init__(self, failures: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures = failures
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = sent["messages"][-1]["content"].split("Text:\n", 1)[1]
        with self.server.lock:
            self.server.asked[text] += 1
            failing = sum(self.server.asked.values()) <= self.server.failures
        message = {"role": "assistant", "content": " ".join(text.split()[:12])}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 50, "completion_tokens": 12, "total_tokens": 62}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps(
            {"error": {"message": "busy"}} if failing else answer | {"choices": [choice], "usage": usage}
        )
        self.send_response(500 if failing else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "gateway", *command]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=280)


def test_a_service_that_fails_twice_is_asked_again(service: Service) -> None:
    service.failures = 2
    options = ServiceOptions("openai/any", service.url, "k", concurrency=1, retries=3, timeout_s=20)
    (reply,) = ServiceTeacher(options).replies([prompt_for("delete", town_text(1))])
    assert reply.trouble == ""
    assert reply.completion_tokens == 12
    assert sum(service.asked.values()) == 3


def test_a_service_that_is_down_is_a_trouble_not_an_end(service: Service) -> None:
    service.failures = 99
    options = ServiceOptions("openai/any", service.url, "k", retries=0, timeout_s=20)
    replies = ServiceTeacher(options).replies([prompt_for("delete", town_text(n)) for n in range(2)])
    assert [reply.trouble for reply in replies] == ["InternalServerError"] * 2


def test_ray_workers_share_the_asking_and_nothing_is_asked_twice(service: Service, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": str(n), "text": town_text(n), "lic": "MIT"} for n in range(40)]
    documents = write_rows(tmp_path / "docs.jsonl", rows)
    command = ["distill", str(documents), "--out", str(tmp_path / "pairs.jsonl"), "--teacher", "openai/any"]
    command += ["--base-url", service.url, "--api-key", "k", "--ray-workers", "2", "--yes", "--json"]
    command += ["--concurrency", "2"]
    for cached in (0, 40):
        done = run(command)
        assert done.returncode == 0, done.stderr[-3000:]
        report = json.loads(done.stdout)
        assert (report["written"], report["cached"]) == (40, cached)
    assert set(service.asked.values()) == {1}
    assert len(service.asked) == 40


def test_a_folder_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"config\.json"):
        LocalTeacher(tmp_path)


def test_a_local_model_answers_in_order_in_batches(tmp_path: Path, tiny_base: Path) -> None:
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_base / "tokenizer.json"),
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=2,
        pad_token_id=1,
        bos_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    teacher = LocalTeacher(tmp_path, "cpu", batch=2, most_new_tokens=4)
    prompts = [prompt_for("delete", town_text(n)[: 40 * (n + 1)]) for n in range(3)]
    together = teacher.replies(prompts)
    alone = [teacher.replies([prompt])[0] for prompt in prompts]
    assert [reply.prompt_tokens for reply in together] == [reply.prompt_tokens for reply in alone]
    assert all(0 <= reply.completion_tokens <= 4 and not reply.trouble for reply in together)
    _lack_memory(teacher, most=1, too_long=max(sum(len(part["content"]) for part in one) for one in prompts))
    again = teacher.replies(prompts)
    assert [reply.trouble for reply in again] == ["", "", "OutOfMemoryError"]  # the longest, asked next time
    assert [reply.prompt_tokens for reply in again[:2]] == [reply.prompt_tokens for reply in alone[:2]]


def _lack_memory(teacher: LocalTeacher, most: int, too_long: int) -> None:
    """Lets the teacher's device hold so many prompts at once, and none of that length."""
    answer = teacher._batch_replies

    def limited(framed: list[str]) -> list[Reply]:
        if len(framed) > most or any(len(prompt) >= too_long for prompt in framed):
            raise torch.OutOfMemoryError("no memory")
        return answer(framed)

    teacher._batch_replies = limited  # type: ignore[method-assign]


def test_rewards_by_the_command(service: Service, tmp_path: Path) -> None:
    questions_file = write_rows(tmp_path / "qa.jsonl", questions(3))
    command = [
        "annotate",
        str(questions_file),
        "--kind",
        "rewards",
        "--out",
        str(tmp_path / "labelled.jsonl"),
    ]
    done = run([*command, "--reader", "openai/any", "--base-url", service.url, "--api-key", "k"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "read at 50%" in done.stderr
    assert len((tmp_path / "labelled.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert run(command).returncode == 2  # nobody to read
