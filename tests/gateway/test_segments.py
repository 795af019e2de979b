from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.rebuild import string_at
from gateway.chat.segments import split_messages
from gateway.shapes import Segment, Surface
from policies import Policy
from policies.shapes import RoleRule
from tests.support.chat_bodies import conversation, long_text
from tests.support.shortening import POLICY, agent_turn, parsed


def split(raw: dict[str, Any], surface: Surface = "chat", policy: Policy = POLICY) -> list[Segment]:
    return split_messages(parsed(raw, surface), policy)


def free(segments: list[Segment]) -> list[str]:
    return [segment.text for segment in segments if not segment.protected]


def reasons(segments: list[Segment]) -> list[str]:
    return [segment.protected for segment in segments]


def test_short_question_system_and_assistant_stay_whole() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", long_text()), ("user", "And now?")]
    segments = split(conversation(turns))
    assert reasons(segments) == ["system", "", "assistant", "instruction"]
    assert [segment.message for segment in segments] == [0, 1, 2, 3]


def test_of_a_long_live_turn_the_first_and_last_paragraph_stay() -> None:
    text = f"Read this.\n\n{long_text()}\n\n{long_text(60)}\n\nWhen is the delivery due?\n"
    segments = split(conversation([("user", text)]))
    assert "".join(segment.text for segment in segments) == text
    assert [segment.protected for segment in segments] == ["instruction", "", "instruction"]
    assert segments[0].text == "Read this.\n\n"
    assert segments[2].text == "\n\nWhen is the delivery due?\n"
    assert [segment.start for segment in segments] == [0, 12, len(text) - len(segments[2].text)]


def test_a_long_single_paragraph_keeps_only_its_outer_sentences() -> None:
    segments = split(conversation([("user", long_text() + " When is it due?")]))
    assert segments[-1].text.strip() == "When is it due?"
    assert len(free(segments)[0]) > 10_000


def test_a_document_in_parts_is_free_and_the_question_is_not() -> None:
    parts = [{"type": "text", "text": long_text()}, {"type": "text", "text": "When is the delivery due?"}]
    segments = split(conversation([("user", parts)]))
    assert segments[-1].protected == "instruction"
    assert segments[-1].path == ("messages", 0, "content", 1, "text")
    assert len(free(segments)) == 1


@pytest.mark.parametrize("tag", ["system-reminder", "instructions", "environment_details"])
def test_tagged_instructions_stay(tag: str) -> None:
    reminder = f"<{tag}>Never delete a file.</{tag}>"
    turns = [
        ("user", f"{long_text(30)}\n\n{reminder}\n\n{long_text(30)}"),
        ("assistant", "Yes."),
        ("user", "Go"),
    ]
    segments = split(conversation(turns))
    kept = [segment for segment in segments if segment.protected == "instruction-tag"]
    assert [segment.text.strip() for segment in kept] == [reminder]
    assert len(free(segments)) == 2


def test_results_of_tools_know_their_tool_and_calls_are_untouchable() -> None:
    segments = split({"model": "m", "messages": [*agent_turn(1, long_text(20))]})
    assert reasons(segments) == ["assistant", "tool-call", ""]
    assert segments[1].kind == "tool-call"
    assert segments[2].role == "tool"
    assert segments[2].tool == "bash"


def test_rules_of_roles_and_tools() -> None:
    policy = Policy(
        "p",
        roles={"assistant": RoleRule(mode="on"), "user": RoleRule(mode="off")},
        tools={"ba*": RoleRule(mode="off")},
    )
    raw = {"model": "m", "messages": [{"role": "user", "content": "x"}, *agent_turn(1, "result")]}
    assert reasons(split(raw, policy=policy)) == ["policy", "", "tool-call", "policy"]


def test_system_may_be_freed_by_the_policy() -> None:
    segments = split(conversation([("system", long_text())]), policy=Policy("p", protect=("numbers",)))
    assert reasons(segments) == [""]


def test_a_last_assistant_message_is_a_prefill() -> None:
    policy = Policy("p", roles={"assistant": RoleRule(mode="on")})
    segments = split(conversation([("user", "Hi"), ("assistant", long_text())]), policy=policy)
    assert segments[-1].protected == "prefill"


def test_anthropic_blocks() -> None:
    marked = {"type": "text", "text": "cached", "cache_control": {"type": "ephemeral"}}
    document = {"type": "document", "source": {"type": "text", "data": long_text()}}
    cited = {**document, "citations": {"enabled": True}}
    raw = {
        "model": "claude",
        "system": [{"type": "text", "text": "You are kind."}, marked],
        "messages": [
            {"role": "user", "content": [marked, document, cited, {"type": "text", "text": "What is due?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a.txt"}},
                    {"type": "tool_use", "id": "t2", "name": "run", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": long_text(20)},
                    {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "Traceback"},
                    {"type": "image", "source": {"type": "base64", "data": "iVBORw0KGgo="}},
                ],
            },
        ],
    }
    segments = split(raw, "messages")
    found = {segment.path: segment for segment in segments}
    assert found["system", 0, "text"].protected == "cache-control"
    assert found["messages", 0, "content", 0, "text"].protected == "cache-control"
    assert found["messages", 0, "content", 1, "source", "data"].protected == ""
    assert found["messages", 0, "content", 2, "source", "data"].protected == "citations"
    assert found["messages", 0, "content", 3, "text"].protected == "instruction"
    assert found["messages", 1, "content", 0, "thinking"].protected == "thinking"
    assert found["messages", 1, "content", 1, "input", "path"].protected == "tool-call"
    result = found["messages", 2, "content", 0, "content"]
    assert (result.protected, result.role, result.tool) == ("", "tool", "read")
    assert found["messages", 2, "content", 1, "content"].protected == "error"
    assert not any("iVBOR" in segment.text for segment in segments)


def test_a_marked_result_is_free_where_a_rule_says_so() -> None:
    block = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": "x",
        "cache_control": {"type": "ephemeral"},
    }
    raw = {"model": "claude", "messages": [{"role": "user", "content": [block]}]}
    assert reasons(split(raw, "messages")) == ["cache-control"]
    assert reasons(split(raw, "messages", Policy("p", roles={"tool": RoleRule(mode="on")}))) == [""]


def test_responses_items() -> None:
    raw = {
        "model": "m",
        "instructions": "Be kind.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Look it up."}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": long_text(20)},
        ],
    }
    segments = split(raw, "responses")
    assert reasons(segments) == ["system", "instruction", "thinking", "tool-call", ""]
    assert segments[-1].tool == "find"


def test_completions_prompts() -> None:
    segments = split({"model": "m", "prompt": ["short", "other", [1, 2, 3]]}, "completions")
    assert [segment.path for segment in segments] == [("prompt", 0), ("prompt", 1)]
    assert reasons(segments) == ["instruction", "instruction"]
    segments = split({"model": "m", "prompt": long_text() + "\n\nWhen?"}, "completions")
    assert [segment.protected for segment in segments][-1] == "instruction"
    assert len(free(segments)) == 1


@pytest.mark.parametrize(
    "content", [None, 5, [], [5, None, {}], [{"type": "text"}], {"type": "text"}, [{"text": 7}]]
)
def test_what_is_not_understood_has_no_segments(content: Any) -> None:
    assert split({"model": "m", "messages": [{"role": "user", "content": content}]}) == []
    assert split({"model": "m", "messages": [{"role": "user", "content": content}]}, "messages") == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["system", "user", "assistant", "tool"]),
            st.text(st.sampled_from("ab .\n<>/system-reminder我"), max_size=400),
        ),
        max_size=6,
    )
)
def test_segments_make_up_each_string(turns: list[tuple[str, str]]) -> None:
    raw = conversation(turns)
    policy = Policy("p", trigger_tokens=20)
    strings: dict[tuple[str | int, ...], str] = {}
    for segment in split(raw, policy=policy):
        assert segment.start == len(strings.get(segment.path, ""))
        strings[segment.path] = strings.get(segment.path, "") + segment.text
    assert all(string_at(raw, path) == text for path, text in strings.items())
    assert len(strings) == len(turns)
