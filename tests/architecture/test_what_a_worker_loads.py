"""What a worker without Redis, recovery and encoder of its own does without: each costs megabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Megabytes of each, loaded, are what keeps a worker under 150 MiB.
NOT_LOADED = (
    "cryptography",
    "httpx",
    "litellm",
    "openvino",
    "ray",
    "redis",
    "tokenizers",
    "torch",
    "transformers",
)
SCRIPT = """
import asyncio, sys
from compressor.engine.fake import FakeEngine
from gateway.services import open_services
from gateway.settings import Settings
import gateway.app, gateway.serving

async def main():
    async with open_services(READ, Settings(data_dir=FOLDER), engine=FakeEngine()) as services:
        assert services.stores.kind == "local"
        print(*sorted({name.split(".")[0] for name in sys.modules}))

from dataclasses import replace
from gateway.configuration_file import parse_config
YAML = 'upstreams: {up: {base_url: "http://127.0.0.1:1/v1"}}\\nmodels: {gpt-4o-mini: {upstream: up}}'
READ = replace(parse_config(YAML, "terse.yaml", Settings()).config, file="")
FOLDER = sys.argv[1]
asyncio.run(main())
"""


def test_libraries_that_are_not_used_are_not_loaded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "tiktoken" in loaded
    assert not set(NOT_LOADED).intersection(loaded)
