"""The gateway itself on a socket, with a fake provider behind it and an engine without a model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from compressor.engine.fake import FakeEngine
from compressor.engine.protocol import ScoringEngine
from gateway.app import create_app
from gateway.config import Config
from gateway.configuration_file import parse_config
from gateway.settings import Settings
from tests.support.fake_upstream import FakeUpstream
from tests.support.live_server import live_server

MODELS = """
upstreams:
  up: {base_url: "%(url)s", api_key: sk-upstream}
models:
  gpt-4o-mini: {upstream: up}
  renamed: {upstream: up, model: gpt-4o-mini-2024}
policies:
  default: {trigger_tokens: 256}
"""


@dataclass(frozen=True)
class LiveGateway:
    """A running gateway. `url` ends before /v1."""

    url: str
    config: Config
    engine: ScoringEngine

    def client(self, **headers: str) -> httpx.Client:
        """A plain HTTP client of it."""
        return httpx.Client(base_url=self.url, timeout=20, headers={"authorization": "Bearer any", **headers})


def read_yaml(text: str, settings: Settings | None = None) -> Config:
    """The configuration that this terse.yaml says."""
    return replace(parse_config(text, "terse.yaml", settings or Settings()).config, file="")


@contextmanager
def live_gateway(
    upstream: FakeUpstream,
    yaml: str = MODELS,
    *,
    settings: Settings | None = None,
    engine: ScoringEngine | None = None,
) -> Iterator[LiveGateway]:
    """Serves until the block ends. `%(url)s` in the YAML is the upstream's base URL."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings or Settings(data_dir=str(Path(folder)))
        config = read_yaml(yaml.replace("%(url)s", upstream.url), settings)
        engine = engine or FakeEngine()
        with live_server(create_app(config, settings, engine=engine)) as url:
            yield LiveGateway(url, config, engine)
