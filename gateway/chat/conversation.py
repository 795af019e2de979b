"""One view on the four shapes of a conversation: messages in the order the upstream reads them, and their
strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.turns import in_turns
from gateway.shapes import ParsedRequest

Path = tuple[str | int, ...]

# What stands in place of an old result that is left out as a whole.
LEFT_OUT = "[An old result was left out here to save space.]"
# Fields that the upstream puts in front of the messages; a change in them changes every prefix.
_PREAMBLE = ("tools", "functions", "system", "instructions", "previous_response_id")


@dataclass(frozen=True, slots=True)
class Slot:
    """One string of a message.

    `protected` says why it must stay whole, whatever the policy says ("" if free).
    """

    path: Path
    text: str
    role: str
    protected: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message (one item of the Responses API, one prompt of a completion), and its strings in order."""

    role: str
    slots: tuple[Slot, ...]
    node: Any  # its raw JSON
    begins_turn: bool = False  # written by the model: what follows was sent later than what stands before
    alone: bool = False  # answered on its own, as each of several prompts is


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole request. `preamble` is what stands before the messages: tools, system text, instructions."""

    preamble: tuple[Slot, ...]
    fixed: Mapping[str, Any]
    messages: Sequence[Message]


def read_conversation(request: ParsedRequest) -> Conversation:
    """The messages of a request; whatever is not understood has no strings, and so stays as it is."""
    raw = request.raw
    fixed = {name: raw[name] for name in _PREAMBLE if raw.get(name) is not None}
    messages = list(_READERS[request.surface](raw)) if request.surface in _READERS else []
    if messages and messages[-1].role == "assistant":
        messages[-1] = _prefill(messages[-1])
    return Conversation(tuple(_preamble(raw)), fixed, messages)


def _preamble(raw: Mapping[str, Any]) -> Iterator[Slot]:
    for name in ("system", "instructions"):
        value = raw.get(name)
        if isinstance(value, str):
            yield Slot((name,), value, "system")
        elif isinstance(value, list):
            marked = any(isinstance(block, dict) and "cache_control" in block for block in value)
            for index, text in _texts(value):
                yield Slot((name, index, "text"), text, "system", "cache-control" if marked else "")


def _prefill(last: Message) -> Message:
    """A last message by the assistant is the beginning of the answer: the model must go on from its exact
    words.
    """
    slots = tuple(
        Slot(slot.path, slot.text, slot.role, slot.protected or "prefill", slot.tool) for slot in last.slots
    )
    return Message(last.role, slots, last.node, last.begins_turn)


def _texts(parts: Sequence[Any]) -> Iterator[tuple[int, str]]:
    for index, part in enumerate(parts):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield index, part["text"]


def _read_chat(raw: Mapping[str, Any]) -> Iterator[Message]:
    tools: dict[str, str] = {}
    for index, node in enumerate(in_turns(raw.get("messages") or ())):
        if not isinstance(node, dict):
            yield Message("", (), node)
            continue
        role = str(node.get("role"))
        base: Path = ("messages", index)
        tool = ""
        if role in ("tool", "function"):
            tool = tools.get(str(node.get("tool_call_id")), "") or str(node.get("name") or "")
        marked = "cache-control" if "cache_control" in node else ""
        slots = [*_content(node.get("content"), (*base, "content"), role, tool, marked)]
        slots += _chat_extras(node, base, tools)
        yield Message(role, tuple(slots), node, role == "assistant")


def _content(content: Any, path: Path, role: str, tool: str, protected: str) -> Iterator[Slot]:
    """Strings of a `content` that is a string or a list of parts with a `text`; other parts have none."""
    if isinstance(content, str):
        yield Slot(path, content, role, protected, tool)
    elif isinstance(content, list):
        for index, text in _texts(content):
            why = protected or ("cache-control" if "cache_control" in content[index] else "")
            if not why and content[index].get("type") in ("thinking", "reasoning", "refusal"):
                why = "thinking"
            yield Slot((*path, index, "text"), text, role, why, tool)


def _chat_extras(node: Mapping[str, Any], base: Path, tools: dict[str, str]) -> Iterator[Slot]:
    """Tool calls and reasoning: never changed, but counted. Notes which call belongs to which tool."""
    for name in ("reasoning_content", "reasoning", "refusal"):
        if isinstance(node.get(name), str):
            yield Slot((*base, name), node[name], "assistant", "thinking")
    calls = node.get("tool_calls")
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            tools[str(call.get("id"))] = str(function.get("name") or "")
            if isinstance(function.get("arguments"), str):
                path = (*base, "tool_calls", position, "function", "arguments")
                yield Slot(path, function["arguments"], "assistant", "tool-call")


def _read_completions(raw: Mapping[str, Any]) -> Iterator[Message]:
    prompt = raw.get("prompt")
    if isinstance(prompt, str):
        yield Message("user", (Slot(("prompt",), prompt, "user"),), prompt)
    elif isinstance(prompt, list):
        for index, text in enumerate(prompt):
            slots = (Slot(("prompt", index), text, "user"),) if isinstance(text, str) else ()
            yield Message("user", slots, text, alone=True)


def _read_responses(raw: Mapping[str, Any]) -> Iterator[Message]:
    items = raw.get("input")
    if isinstance(items, str):
        yield Message("user", (Slot(("input",), items, "user"),), items)
        return
    tools: dict[str, str] = {}
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            yield Message("", (), item)
            continue
        kind = item.get("type") or "message"
        base: Path = ("input", index)
        if kind == "message":
            role = str(item.get("role"))
            slots = tuple(_content(item.get("content"), (*base, "content"), role, "", ""))
            yield Message(role, slots, item, role == "assistant")
        elif kind in ("function_call_output", "custom_tool_call_output", "local_shell_call_output"):
            tool = tools.get(str(item.get("call_id")), "")
            yield Message(
                "tool", tuple(_content(item.get("output"), (*base, "output"), "tool", tool, "")), item
            )
        else:
            tools[str(item.get("call_id"))] = str(item.get("name") or "")
            yield Message("assistant", tuple(_responses_extras(item, base)), item, True)


def _responses_extras(item: Mapping[str, Any], base: Path) -> Iterator[Slot]:
    for name in ("arguments", "input"):
        if isinstance(item.get(name), str):
            yield Slot((*base, name), item[name], "assistant", "tool-call")
    for name in ("summary", "content"):
        if isinstance(item.get(name), list):
            for index, text in _texts(item[name]):
                yield Slot((*base, name, index, "text"), text, "assistant", "thinking")


def _read_messages(raw: Mapping[str, Any]) -> Iterator[Message]:
    tools: dict[str, str] = {}
    for index, node in enumerate(in_turns(raw.get("messages") or ())):
        if not isinstance(node, dict):
            yield Message("", (), node)
            continue
        role = str(node.get("role"))
        content = node.get("content")
        path: Path = ("messages", index, "content")
        if isinstance(content, str):
            slots: tuple[Slot, ...] = (Slot(path, content, role),)
        else:
            blocks = content if isinstance(content, list) else []
            slots = tuple(
                slot
                for position, block in enumerate(blocks)
                if isinstance(block, dict)
                for slot in _block(block, (*path, position), role, tools)
            )
        yield Message(role, slots, node, role == "assistant")


def _block(block: Mapping[str, Any], path: Path, role: str, tools: dict[str, str]) -> Iterator[Slot]:
    """The strings of one Anthropic content block. https://docs.anthropic.com/en/api/messages"""
    kind = block.get("type")
    marked = "cache-control" if "cache_control" in block else ""
    if kind == "text" and isinstance(block.get("text"), str):
        why = marked or ("citations" if block.get("citations") else "")
        yield Slot((*path, "text"), block["text"], role, why)
    elif kind == "tool_use":
        tools[str(block.get("id"))] = str(block.get("name") or "")
        yield from _leaves(block.get("input"), (*path, "input"), "tool-call")
    elif kind == "tool_result":
        tool = tools.get(str(block.get("tool_use_id")), "")
        why = marked or ("error" if block.get("is_error") else "")
        yield from _content(block.get("content"), (*path, "content"), "tool", tool, why)
    elif kind in ("document", "search_result"):
        yield from _document(block, path, role, marked)
    elif kind == "thinking" and isinstance(block.get("thinking"), str):
        yield Slot((*path, "thinking"), block["thinking"], role, "thinking")


def _document(block: Mapping[str, Any], path: Path, role: str, protected: str) -> Iterator[Slot]:
    """Citations point into the document by character, so a cited one stays whole."""
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        protected = protected or "citations"
    source = block.get("source")
    if isinstance(source, dict):
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            yield Slot((*path, "source", "data"), source["data"], role, protected, "document")
        elif source.get("type") == "content":
            yield from _content(
                source.get("content"), (*path, "source", "content"), role, "document", protected
            )
    yield from _content(block.get("content"), (*path, "content"), role, "document", protected)


def _leaves(value: Any, path: Path, protected: str) -> Iterator[Slot]:
    if isinstance(value, str):
        yield Slot(path, value, "assistant", protected)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key), protected)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index), protected)


_READERS = {
    "chat": _read_chat,
    "completions": _read_completions,
    "responses": _read_responses,
    "messages": _read_messages,
}
