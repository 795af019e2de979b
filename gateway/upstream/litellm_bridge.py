"""The hundred other providers, through litellm: the one file that imports it, once a request needs it.

Its import takes seconds and 200 MB, reads `.env` files and fetches a price map unless told not to.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import orjson

from gateway.chat.event_stream import DONE, error_body, write_event
from gateway.chat.request import read_object
from gateway.config import UpstreamConfig
from gateway.errors import BadRequest, GatewayError, UpstreamBroke, UpstreamTimeout, UpstreamUnreachable
from gateway.settings import set_environment
from gateway.shapes import Surface
from gateway.upstream.base import ReadyBody, UpstreamCall, UpstreamReply

_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
_MCP_MODULE = "litellm.responses.mcp.litellm_proxy_mcp_handler"
_JSON = [("content-type", "application/json")]
_EVENT_STREAM = [("content-type", "text/event-stream; charset=utf-8")]
_SHAPE = {"exclude_none": True, "exclude_unset": True}
# A body may name none of these: they would send the operator's key to an address of the client's choice.
_NEVER_FROM_CLIENTS = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "custom_llm_provider",
        "default_headers",
        "deployment_id",
        "extra_headers",
        "headers",
        "model_list",
        "organization",
        "request_timeout",
        "shared_session",
        "timeout",
    }
)
# OpenAI's own parameters that litellm counts as its own.
_OPENAI_PARAMETERS = frozenset({"metadata", "user", "n", "stream", "model", "messages", "input", "prompt"})


class LitellmUpstream:
    """One provider by litellm's name for it: `anthropic`, `bedrock`, `gemini`, `vertex_ai`, ...

    Every surface but `messages`, which comes here through MessagesAdapter as chat.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config

    async def send(self, call: UpstreamCall) -> UpstreamReply:
        """Translates, asks, translates back; what the provider refuses is a reply in the surface's shape."""
        asked = read_object(call.body)
        litellm = await load_litellm()
        arguments = self._arguments(litellm, call, asked)
        try:
            answer = await _function(litellm, call.surface)(**arguments)
        except Exception as error:  # noqa: BLE001 - litellm raises whatever a provider's code raises
            return self._refusal(call.surface, error)
        if call.stream and hasattr(answer, "__aiter__"):
            done = call.surface in ("chat", "completions")
            return UpstreamReply(200, _EVENT_STREAM, _StreamedAnswer(answer, self._config.name, done))
        return UpstreamReply(200, _JSON, ReadyBody([orjson.dumps(_plain(answer))]))

    async def close(self) -> None:
        """Closes litellm's connections, which all bridges of the process share."""
        if "litellm" in sys.modules:
            await sys.modules["litellm"].close_litellm_async_clients()

    def _arguments(self, litellm: Any, call: UpstreamCall, asked: Mapping[str, Any]) -> dict[str, Any]:
        from litellm.types.utils import is_litellm_owned_kwarg

        arguments: dict[str, Any] = {}
        for name, value in asked.items():
            owned = name in _NEVER_FROM_CLIENTS or is_litellm_owned_kwarg(name)
            if owned and name not in _OPENAI_PARAMETERS:
                raise BadRequest(f"{name}: this field cannot be sent to {self._config.name}", param=name)
            arguments[name] = value
        arguments.pop("metadata", None)  # litellm takes it for its own log
        arguments |= {
            "model": f"{self._config.litellm}/{call.model}",
            "timeout": self._config.read_timeout,
            "max_retries": 0,
            "num_retries": 0,
        }
        if call.surface in ("chat", "responses"):
            # Tools go to the provider as they are; else litellm wants the `mcp` package and runs them itself.
            arguments["_skip_mcp_handler"] = True
        key = self._config.api_key.reveal() if self._config.api_key else call.client_key
        if key:
            arguments["api_key"] = key
        if self._config.base_url:
            base = self._config.base_url.rstrip("/")
            # litellm adds Anthropic's /v1 itself.
            arguments["api_base"] = base.removesuffix("/v1") if self._config.litellm == "anthropic" else base
        if self._config.headers:
            arguments["extra_headers"] = dict(self._config.headers)
        return arguments

    def _refusal(self, surface: Surface, error: Exception) -> UpstreamReply:
        """The provider's error as a reply; trouble of the network is raised."""
        mapped = map_litellm_error(error, self._config.name)
        if not isinstance(mapped, _ProviderRefused):
            raise mapped from error
        headers = [*_JSON]
        response = getattr(error, "response", None)
        retry_after = response.headers.get("retry-after") if response is not None else None
        if retry_after:
            headers.append(("retry-after", retry_after))
        shaped = orjson.dumps(error_body(surface, mapped))
        return UpstreamReply(mapped.status, headers, ReadyBody([shaped]))


class _ProviderRefused(GatewayError):
    """An HTTP error that the provider itself answered with."""


def map_litellm_error(error: Exception, name: str) -> GatewayError:
    """Any exception of litellm: an answer of the provider (with its status), or 502 or 504."""
    import openai

    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return UpstreamTimeout(f"{name}: the provider did not answer in time")
    if isinstance(error, openai.APIConnectionError):
        return UpstreamUnreachable(f"{name}: no connection to the provider")
    status = getattr(error, "status_code", None)
    message = str(getattr(error, "message", "") or error)
    if isinstance(error, openai.APIStatusError) and isinstance(status, int) and status >= 400:
        refused = _ProviderRefused(message)
        refused.status = status
        refused.type = str(getattr(error, "type", None) or "upstream_error")
        refused.code = str(getattr(error, "code", None) or status)
        refused.param = getattr(error, "param", None)
        return refused
    return UpstreamBroke(f"{name}: the provider's reply could not be read ({type(error).__name__})")


class _StreamedAnswer:
    """litellm's stream of objects (or of ready events) as the bytes of an event stream."""

    def __init__(self, answer: Any, name: str, done: bool) -> None:
        self._answer = answer
        self._name = name
        self._done = done  # OpenAI's chat and completions end with a [DONE]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._answer:
                yield _event(part)
        except Exception as error:
            mapped = map_litellm_error(error, self._name)
            raise mapped from error
        if self._done:
            yield DONE

    async def read(self) -> bytes:
        return b"".join([part async for part in self])

    async def close(self) -> None:
        for part in list(_layers(self._answer)):
            closing = getattr(part, "aclose", None)
            if closing is not None:
                with contextlib.suppress(Exception):  # litellm's, a provider's: nobody waits for it any more
                    await closing()


def _layers(stream: Any) -> Iterator[Any]:
    """The stream and what it reads from, down to the HTTP response.

    litellm's wrapper closes only what has an `aclose` of its own; the response of most providers sits behind
    an object without one, and would be read on after the client left.
    """
    while stream is not None:
        yield stream
        frame = getattr(stream, "ag_frame", None)
        if frame is not None:
            stream = frame.f_locals.get("self")
        else:
            within = getattr(stream, "completion_stream", None)
            stream = within or getattr(stream, "streaming_response", None)


def _event(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return part.encode()
    value = _plain(part)
    return write_event(value, str(value["type"]) if "type" in value else "")


def _plain(answer: Any) -> dict[str, Any]:
    value = answer if isinstance(answer, Mapping) else answer.model_dump(mode="json", **_SHAPE)
    return {key: item for key, item in value.items() if not key.startswith("_")}


def _function(litellm: Any, surface: Surface) -> Callable[..., Awaitable[Any]]:
    functions: Mapping[Surface, Callable[..., Awaitable[Any]]] = {
        "chat": litellm.acompletion,
        "completions": litellm.atext_completion,
        "embeddings": litellm.aembedding,
        "responses": litellm.aresponses,
    }
    return functions[surface]


async def load_litellm() -> Any:
    """The module, imported on a thread the first time, without `.env`, network, telemetry or chatter."""
    return await asyncio.to_thread(_import_litellm)


def _import_litellm() -> Any:
    set_environment(_ENVIRONMENT)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    sys.modules.setdefault(_MCP_MODULE, _without_mcp())
    return litellm


def _without_mcp() -> ModuleType:
    """Stands in for litellm's MCP gateway, which `responses` imports only to ask whether a tool is its own.

    The real one wants FastAPI and `mcp`, which litellm as a library does not bring. No tool is its own here.
    """

    class Handler:
        @staticmethod
        def should_use_litellm_mcp_gateway(**_tools: Any) -> bool:
            return False

    module = ModuleType(_MCP_MODULE)
    vars(module)["LiteLLM_Proxy_MCP_Handler"] = Handler
    return module
