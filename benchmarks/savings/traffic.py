"""Multi-turn traffic from the development data: conversations as the requests that a client sends, turn by
turn.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

Message = dict[str, Any]

_STEP = re.compile(r"^### (thought|action|observation)\n", re.MULTILINE)
_ROLE = re.compile(r"^<(user|assistant|tool)> ", re.MULTILINE)

AGENT_SYSTEM = (
    "You are an autonomous programmer working in a shell. Think, then call the tool `bash` with one command "
    "at a time. Read files before you edit them, keep edits small, run the tests, and submit when they pass. "
) * 8
AIRLINE_SYSTEM = (
    "You are an agent of an airline's customer service. Follow the policy: ask for user and reservation id, "
    "never change basic economy flights, refund to the original payment method only, and transfer to a human "
    "when unsure. "
) * 20
RAG_SYSTEM = "Answer the question from the documents only; say so when they do not contain the answer."
MEETING_SYSTEM = "You answer questions about a meeting from its transcript."


@dataclass(frozen=True, slots=True)
class Conversation:
    """`turns[i]` are the messages that are new in request i; `gaps[i]` the seconds before it."""

    name: str
    turns: tuple[tuple[Message, ...], ...]
    gaps: tuple[float, ...]
    tools: tuple[Message, ...] = ()

    def requests(self, model: str) -> Iterator[dict[str, Any]]:
        """The body of each request: everything so far."""
        messages: list[Message] = []
        for turn in self.turns:
            messages += turn
            yield {
                "model": model,
                "messages": list(messages),
                **({"tools": list(self.tools)} if self.tools else {}),
            }


def rows_of(data: Path, name: str) -> list[dict[str, Any]]:
    """The records of one file of the data folder."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [orjson.loads(line) for line in lines]


def swe_agents(data: Path, count: int, seed: int) -> list[Conversation]:
    """Recorded SWE-agent runs: thought and action by the model, observation by the tool; two runs a
    conversation, since the recorded observations are cut to 1,500 characters."""
    draw = random.Random(seed)
    runs = [
        row["text"] for row in rows_of(data, "raw_text_logs_json_tools") if row["source"] == "swe_agent_traj"
    ]
    draw.shuffle(runs)
    pairs = [runs[index] + "\n" + runs[(index + 1) % len(runs)] for index in range(min(count, len(runs)))]
    return [agent(f"swe-agent {index}", _steps_of(text), draw, 15) for index, text in enumerate(pairs)]


def _steps_of(text: str) -> list[tuple[str, str]]:
    """(what the model said, what the tool answered)."""
    parts = _STEP.split(text)[1:]
    steps: list[tuple[str, str]] = []
    said = ""
    for kind, body in zip(parts[::2], parts[1::2], strict=False):
        if kind == "observation":
            steps.append((said.strip(), body.strip()))
            said = ""
        else:
            said += body
    return [step for step in steps if step[1]]


def log_agents(data: Path, count: int, seed: int) -> list[Conversation]:
    """Agents that read logs and JSON of APIs: real texts, in conversations of 12 to 30 tool calls."""
    draw = random.Random(seed)
    rows = rows_of(data, "raw_text_logs_json_tools")
    texts = [
        row["text"] for row in rows if row["source"].startswith(("loghub_", "octokit", "tau_bench_flights"))
    ]
    return [
        agent(
            f"log agent {index}",
            [
                (f"I look at source {step}.", draw.choice(texts)[:9000])
                for step in range(draw.randint(12, 30))
            ],
            draw,
            20,
        )
        for index in range(count)
    ]


def agent(name: str, steps: Sequence[tuple[str, str]], draw: random.Random, gap: float) -> Conversation:
    task = "Find out why the nightly job fails, fix it and tell me in two sentences what was wrong."
    turns: list[tuple[Message, ...]] = [
        ({"role": "system", "content": AGENT_SYSTEM}, {"role": "user", "content": task})
    ]
    for number, (said, observed) in enumerate(steps):
        call = {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "bash", "arguments": orjson.dumps({"command": said[-200:]}).decode()},
        }
        turns.append(
            (
                {"role": "assistant", "content": said, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"call_{number}", "content": observed},
            )
        )
    return Conversation(name, tuple(turns), _gaps(len(turns), draw, gap))


def airline_agents(data: Path, count: int, seed: int) -> list[Conversation]:
    """Recorded tau-bench dialogues: many short turns, little to shorten."""
    draw = random.Random(seed)
    rows = [
        row for row in rows_of(data, "raw_text_logs_json_tools") if row["source"] == "tau_bench_airline_traj"
    ]
    found = []
    for index, row in enumerate(draw.sample(rows, min(count, len(rows)))):
        parts = _ROLE.split(row["text"])[1:]
        turns: list[tuple[Message, ...]] = []
        waiting: list[Message] = [{"role": "system", "content": AIRLINE_SYSTEM}]
        calls = 0
        for role, text in zip(parts[::2], parts[1::2], strict=False):
            if role == "tool":
                calls += 1
                call = {
                    "id": f"c{calls}",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": "{}"},
                }
                waiting.append({"role": "assistant", "content": None, "tool_calls": [call]})
                waiting.append({"role": "tool", "tool_call_id": f"c{calls}", "content": text.strip()})
                turns.append(tuple(waiting))
                waiting = []
            else:
                waiting.append({"role": role, "content": text.strip()})
                if role == "user":
                    turns.append(tuple(waiting))
                    waiting = []
        if turns:
            found.append(Conversation(f"airline {index}", tuple(turns), _gaps(len(turns), draw, 45)))
    return found


def rag_sessions(data: Path, count: int, seed: int) -> list[Conversation]:
    """Sessions of one to six questions, each with ten retrieved documents above it."""
    draw = random.Random(seed)
    rows = rows_of(data, "qa_dev_nq10docs")
    draw.shuffle(rows)
    found = []
    taken = iter(rows)
    for index in range(count):
        turns: list[tuple[Message, ...]] = []
        answer: list[Message] = [{"role": "system", "content": RAG_SYSTEM}]
        for row in [next(taken) for _ in range(draw.randint(1, 6))]:
            asked = {"role": "user", "content": f"{row['context']}\n\nQuestion: {row['question']}?"}
            turns.append((*answer, asked))
            answer = [{"role": "assistant", "content": f"It is {row['answers'][0]}."}]
        found.append(Conversation(f"rag {index}", tuple(turns), _gaps(len(turns), draw, 90)))
    return found


def meetings(data: Path, count: int, seed: int) -> list[Conversation]:
    """A transcript with the first question below it, then all other questions about the same meeting."""
    draw = random.Random(seed)
    by_meeting: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(data, "qa_dev_meetings_qmsum"):
        by_meeting.setdefault(row["context"], []).append(row)
    groups = [rows for rows in by_meeting.values() if len(rows[0]["context"]) < 60_000]
    draw.shuffle(groups)
    found = []
    for index, rows in enumerate(groups[:count]):
        first = {"role": "user", "content": f"{rows[0]['context']}\n\n{rows[0]['question']}"}
        turns: list[tuple[Message, ...]] = [({"role": "system", "content": MEETING_SYSTEM}, first)]
        for before, row in pairwise(rows):
            said = before["answers"][0] if before["answers"] else "I do not know."
            turns.append(
                ({"role": "assistant", "content": said}, {"role": "user", "content": row["question"]})
            )
        found.append(Conversation(f"meeting {index}", tuple(turns), _gaps(len(turns), draw, 60)))
    return found


def short_chats(data: Path, count: int, seed: int) -> list[Conversation]:
    """Chats of two to four turns about documents (1,240 to 1,520 tokens) pasted with the first
    question, four for each conversation of the other scenarios.
    """
    draw = random.Random(seed)
    rows = [row for row in rows_of(data, "qa_dev_nq10docs") if row["answers"]]
    draw.shuffle(rows)
    found = []
    for index, row in enumerate(rows[: 4 * count]):
        pasted = row["context"][: draw.randint(5_400, 11_200)]  # the longest has 7,400
        first = {"role": "user", "content": f"{pasted}\n\nWhat is this about, and {row['question']}?"}
        turns: list[tuple[Message, ...]] = [({"role": "system", "content": RAG_SYSTEM}, first)]
        for _ in range(draw.randint(1, 3)):
            other = rows[draw.randrange(len(rows))]
            said = {"role": "assistant", "content": f"It says {other['answers'][0]}, and little else of it."}
            turns.append((said, {"role": "user", "content": f"And does it say {other['question']}?"}))
        found.append(Conversation(f"chat {index}", tuple(turns), _gaps(len(turns), draw, 45)))
    return found


def _gaps(count: int, draw: random.Random, mean: float) -> tuple[float, ...]:
    """Seconds before each request: exponential; one in thirty is a break of 20 minutes more."""
    return tuple(draw.expovariate(1 / mean) + (1200 if draw.random() < 1 / 30 else 0) for _ in range(count))


def as_anthropic(raw: dict[str, Any]) -> dict[str, Any]:
    """The same request for /v1/messages, as agents send it: cache markers on the system text and the last
    block.
    """
    marker = {"type": "ephemeral"}
    system = raw["messages"][0]["content"]
    messages: list[Message] = []
    for message in raw["messages"][1:]:
        blocks = _blocks(message)
        role = "assistant" if message["role"] == "assistant" else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    messages[-1]["content"][-1] = {**messages[-1]["content"][-1], "cache_control": marker}
    return {
        "model": raw["model"],
        "max_tokens": 1000,
        "system": [{"type": "text", "text": system, "cache_control": marker}],
        "messages": messages,
    }


def _blocks(message: Message) -> list[Message]:
    if message["role"] == "tool":
        return [
            {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
        ]
    blocks: list[Message] = [{"type": "text", "text": message["content"]}] if message["content"] else []
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"]["name"], orjson.loads(call["function"]["arguments"])
        blocks.append({"type": "tool_use", "id": call["id"], "name": name, "input": arguments})
    return blocks
