"""Which model goes to which upstream; and sending to it, with retries and fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import aiohttp

from gateway.chat.large_json import LARGE_BYTES
from gateway.chat.request import rename_model
from gateway.config import Config, ModelConfig, UpstreamConfig
from gateway.errors import NotFound
from gateway.shapes import ParsedRequest, Usage
from gateway.turns import at_work
from gateway.upstream.base import Upstream, UpstreamCall, UpstreamReply
from gateway.upstream.headers import to_upstream
from gateway.upstream.litellm_bridge import LitellmUpstream
from gateway.upstream.messages_adapter import MessagesAdapter
from gateway.upstream.offline import OfflineUpstream
from gateway.upstream.passthrough import PassthroughUpstream
from gateway.upstream.retries import Target, attempt_all
from policies.globs import compile_glob, is_glob

_REMEMBERED = 4096
_ANTHROPIC_URL = "https://api.anthropic.com/v1"


@dataclass(frozen=True, slots=True)
class Sent:
    """The reply, the model that gave it, and how many attempts it took."""

    reply: UpstreamReply
    model: ModelConfig
    upstream: str
    attempts: int
    additional: Callable[[], Usage] | None = None  # what further calls were billed, at the end


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes upstream. `body` is the client's JSON, shortened or not; `wire` the bytes of the socket."""

    request: ParsedRequest
    body: bytes
    headers: Sequence[tuple[str, str]]  # the client's
    wire: bytes | None = None  # the body as it was encoded, when it may go on unchanged
    client_key: str = ""


class Directory:
    """The models of one configuration and their upstreams. A reload makes a new one."""

    def __init__(self, config: Config, session: aiohttp.ClientSession) -> None:
        self._models = config.models
        self._globs = [(compile_glob(name), m) for name, m in config.models.items() if is_glob(name)]
        self._resolved: dict[str, ModelConfig] = {}
        self._configs = config.upstreams
        self._upstreams = {name: _open(upstream, session) for name, upstream in config.upstreams.items()}

    def find(self, name: str) -> ModelConfig:
        """The model a client means: by its name, else by the first glob. Raises NotFound."""
        model = self._models.get(name) or self._resolved.get(name)
        if model is not None:
            return model
        for matches, model in self._globs:
            if matches(name):
                if len(self._resolved) >= _REMEMBERED:
                    self._resolved.clear()  # names come from clients
                # Under a glob the client's name is the upstream's, and the one that prices go by.
                return self._resolved.setdefault(name, replace(model, model=model.model or name))
        raise NotFound(f"the model {name!r} does not exist", param="model", code="model_not_found")

    def names(self) -> list[str]:
        """The models that can be listed: those with a name of their own."""
        return [name for name in self._models if not is_glob(name)]

    def upstream_of(self, model: ModelConfig) -> UpstreamConfig:
        """Where the model's requests go."""
        return self._configs[model.upstream]

    async def send(self, outgoing: Outgoing, model: ModelConfig) -> Sent:
        """The first good reply of the model and its fallbacks; else the last failure, given or raised."""
        models = [model, *(self.find(name) for name in model.fallbacks)]
        # Looking for the name in a large body is work for a thread.
        large = len(outgoing.body) >= LARGE_BYTES and any(map(partial(_is_renamed, outgoing.request), models))
        targets = [await at_work(large, self._target, outgoing, one) for one in models]
        attempted = await attempt_all(targets)
        answered = models[attempted.target]
        return Sent(attempted.reply, answered, answered.upstream, attempted.attempts)

    def _target(self, outgoing: Outgoing, model: ModelConfig) -> Target:
        request = outgoing.request
        named = model.model or model.name
        upstream = self._upstreams[model.upstream]
        taker = upstream.get(request.surface, upstream["other"])
        body, headers = outgoing.body, outgoing.headers
        if _is_renamed(request, model):
            body = rename_model(body, named)
        if body is request.body and outgoing.wire is not None and isinstance(taker, PassthroughUpstream):
            body = outgoing.wire
        else:
            headers = [(name, value) for name, value in headers if name != "content-encoding"]
        call = UpstreamCall(
            surface=request.surface,
            path=request.path.removeprefix("/v1"),
            body=body,
            model=named,
            stream=request.stream,
            headers=to_upstream(headers, stream=request.stream),
            client_key=outgoing.client_key,
        )
        return Target(partial(taker.send, call), self._configs[model.upstream].retries)

    async def close(self) -> None:
        """Closes every upstream."""
        for surfaces in self._upstreams.values():
            for upstream in surfaces.values():
                await upstream.close()


def _is_renamed(request: ParsedRequest, model: ModelConfig) -> bool:
    return (model.model or model.name) != request.model


def _open(config: UpstreamConfig, session: aiohttp.ClientSession) -> Mapping[str, Upstream]:
    """Who answers which surface of one upstream; "other" stands for all that are not named."""
    if config.anthropic or config.litellm == "anthropic":
        # Anthropic's own surface goes there byte for byte, only the others are translated.
        direct = replace(config, base_url=config.base_url or _ANTHROPIC_URL, anthropic=True)
        bridge = LitellmUpstream(replace(config, litellm="anthropic"))
        return {"messages": PassthroughUpstream(direct, session), "other": bridge}
    if config.litellm:
        bridge = LitellmUpstream(config)
        return {"messages": MessagesAdapter(bridge, config.name), "other": bridge}
    if not config.base_url:
        return {"other": OfflineUpstream()}
    passthrough = PassthroughUpstream(config, session)
    return {"messages": MessagesAdapter(passthrough, config.name), "other": passthrough}
