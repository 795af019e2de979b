"""Anthropic's `/v1/messages` on an upstream that speaks OpenAI's chat completions, both ways.

Follows https://docs.anthropic.com/en/api/messages and https://platform.openai.com/docs/api-reference/chat.
What chat completions cannot say (`top_k`, `thinking`, signatures) is left out; what would change the meaning
of the request (a tool that only Anthropic runs) is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from compressor.text.tokens import counter_for
from gateway.chat.event_stream import error_body
from gateway.chat.lenient_json import write_json
from gateway.chat.request import read_object
from gateway.errors import BadRequest, GatewayError, UpstreamBroke
from gateway.upstream.base import ReadyBody, Upstream, UpstreamCall, UpstreamReply
from gateway.upstream.messages_stream import STOP_REASONS, MessagesStream, usage_of

_JSON = [("content-type", "application/json")]
# OpenAI's reasoning models refuse max_tokens; older servers know nothing else.
_NEW_LIMIT_MODELS = re.compile(r"^(o\d|gpt-5)")
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class MessagesAdapter:
    """Wraps an OpenAI-compatible upstream so that it answers Anthropic's clients."""

    def __init__(self, upstream: Upstream, name: str) -> None:
        self._upstream = upstream
        self._name = name

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Raises BadRequest for what cannot be translated, and what the upstream raises."""
        asked = read_object(call.body)
        try:
            if call.path.endswith("/count_tokens"):
                tokens = await count_tokens(asked, call.model)
                return UpstreamReply(200, _JSON, ReadyBody([orjson.dumps({"input_tokens": tokens})]))
            translated = write_json(to_chat(asked))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            # The client's own shape, which Anthropic would refuse, too.
            raise BadRequest("the body: not a request that can be translated for this upstream") from error
        chat = UpstreamCall(
            surface="chat",
            path="/chat/completions",
            body=translated,
            model=call.model,
            stream=call.stream,
            headers=_plain_headers(call),
            client_key=call.client_key,
        )
        reply = await self._upstream.send(chat)
        if reply.status >= 400:
            return await _error_reply(reply)
        if reply.event_stream:
            return UpstreamReply(reply.status, reply.headers, MessagesStream(reply.body, call.model))
        body = await reply.body.read()
        await reply.body.close()
        try:
            message = from_chat(orjson.loads(body))
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
            raise UpstreamBroke(f"{self._name}: the upstream's reply is no chat completion") from error
        return UpstreamReply(reply.status, _without_length(reply), ReadyBody([orjson.dumps(message)]))

    async def close(self) -> None:
        """Closes the upstream within."""
        await self._upstream.close()


async def count_tokens(asked: Mapping[str, Any], model: str) -> int:
    """What a `/v1/messages` body counts in the model's tokenizer, tools and system text included."""
    texts = [write_json(tool).decode() for tool in asked.get("tools") or ()]
    texts += [_text_of(asked.get("system"))]
    for message in asked.get("messages") or ():
        texts.append(_text_of(message.get("content")))
    counted = await asyncio.to_thread(counter_for(model).count_many, texts)
    return sum(counted)


def _plain_headers(call: UpstreamCall) -> list[tuple[str, str]]:
    """No Anthropic headers, and nothing compressed: the reply is read here."""
    kept = [
        (name, value)
        for name, value in call.headers
        if not name.startswith("anthropic-") and name != "accept-encoding"
    ]
    return [*kept, ("accept-encoding", "identity")]


def _without_length(reply: UpstreamReply) -> list[tuple[str, str]]:
    return [(name, value) for name, value in reply.headers if name != "content-encoding"]


async def _error_reply(reply: UpstreamReply) -> UpstreamReply:
    body = await reply.body.read()
    await reply.body.close()
    message = body.decode("utf-8", "replace")
    with contextlib.suppress(orjson.JSONDecodeError, LookupError, TypeError):
        message = str(orjson.loads(body)["error"]["message"])
    error = GatewayError(message)
    error.status = reply.status
    headers = [(name, value) for name, value in _without_length(reply) if name != "content-type"]
    shaped = ReadyBody([orjson.dumps(error_body("messages", error))])
    return UpstreamReply(reply.status, [*headers, *_JSON], shaped)


def to_chat(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The chat request that asks the same. Raises BadRequest naming what has no counterpart."""
    messages: list[dict[str, Any]] = []
    system = _text_of(asked.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    for index, message in enumerate(asked.get("messages") or ()):
        messages.extend(_chat_messages(message, f"messages[{index}]"))
    chat: dict[str, Any] = {"model": asked["model"], "messages": messages}
    limit = "max_completion_tokens" if _NEW_LIMIT_MODELS.match(asked["model"]) else "max_tokens"
    renamed = {"max_tokens": limit, "stop_sequences": "stop", "temperature": "temperature", "top_p": "top_p"}
    chat.update({new: asked[old] for old, new in renamed.items() if asked.get(old) is not None})
    if asked.get("stream"):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if asked.get("tools"):
        chat["tools"] = [_chat_tool(tool, f"tools[{n}]") for n, tool in enumerate(asked["tools"])]
    chat |= _tool_choice(asked.get("tool_choice") or {})
    user = (asked.get("metadata") or {}).get("user_id")
    return {**chat, "user": user} if user else chat


def _chat_tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type", "custom") != "custom":
        raise BadRequest(
            f"{where}: the tool {tool['type']!r} exists on Anthropic's own API only", param=where
        )
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if choice.get("type") == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice.get("type") in _TOOL_CHOICES:
        chat["tool_choice"] = _TOOL_CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
    return chat


def _chat_messages(message: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if not isinstance(content, list):
        yield {"role": message["role"], "content": content}
    elif message["role"] == "assistant":
        yield _assistant_message(content)
    else:
        # Tool results come first: they answer the message before, and chat wants them right behind it.
        for block in content:
            if block.get("type") == "tool_result":
                yield {
                    "role": "tool",
                    "tool_call_id": block.get("tool_use_id"),
                    "content": _text_of(block.get("content")),
                }
        parts = [_chat_part(block, where) for block in content if block.get("type") != "tool_result"]
        if all(part["type"] == "text" for part in parts) and len(parts) == 1:
            yield {"role": message["role"], "content": parts[0]["text"]}
        elif parts:
            yield {"role": message["role"], "content": parts}


def _assistant_message(content: list[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [str(block.get("text", "")) for block in content if block.get("type") == "text"]
    calls = [
        {
            "id": block.get("id"),
            "type": "function",
            "function": {
                "name": block.get("name"),
                "arguments": orjson.dumps(block.get("input") or {}).decode(),
            },
        }
        for block in content
        if block.get("type") == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    return message


def _chat_part(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = block.get("type")
    source = block.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": block.get("text", "")}
    if kind == "image":
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document" and source.get("type") == "text":
        return {"type": "text", "text": source.get("data", "")}
    if kind == "document" and source.get("type") == "base64":
        data = f"data:{source.get('media_type')};base64,{source.get('data')}"
        file = {"filename": block.get("title") or "document.pdf", "file_data": data}
        return {"type": "file", "file": file}
    raise BadRequest(f"{where}: content of type {kind!r} has no counterpart on this upstream", param=where)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [b.get("text", "") if b.get("type") == "text" else _text_of(b.get("content")) for b in content]
    return "\n".join(text for text in texts if text)


def from_chat(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The Anthropic message that says what the chat completion says."""
    choice = completion["choices"][0]
    said = choice["message"]
    blocks: list[dict[str, Any]] = []
    if said.get("reasoning_content"):
        blocks.append({"type": "thinking", "thinking": said["reasoning_content"], "signature": ""})
    text = said.get("content") or said.get("refusal")
    if text:
        blocks.append({"type": "text", "text": text})
    for call in said.get("tool_calls") or ():
        function = call["function"]
        given = orjson.loads(function.get("arguments") or "{}")
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return {
        "id": str(completion.get("id", "")).replace("chatcmpl-", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": completion.get("model", ""),
        "content": blocks,
        "stop_reason": STOP_REASONS.get(choice.get("finish_reason"), "end_turn"),
        "stop_sequence": None,
        "usage": usage_of(completion.get("usage") or {}),
    }
