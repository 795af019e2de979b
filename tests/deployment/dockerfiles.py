"""Reads from a Dockerfile what a container would run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docker"


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage of a Dockerfile leaves in the image."""

    user: str
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    health: list[str]
    stop_signal: str
    port: int


def read_image(name: str) -> Image:
    """Of `docker/NAME`. Raises KeyError when it does not say one of them."""
    text = (FOLDER / name).read_text(encoding="utf-8").replace("\\\n", " ")
    said: dict[str, str] = {}
    environment: dict[str, str] = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            said.clear()
            environment.clear()
        elif word == "ENV":
            environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word.isupper():
            said[word] = rest.strip()
    health = re.search(r"CMD (\[.*\])", said["HEALTHCHECK"])
    assert health is not None, "the health check is no list: a shell would be needed in the image"
    return Image(
        user=said["USER"],
        environment=environment,
        entrypoint=json.loads(said["ENTRYPOINT"]),
        command=json.loads(said["CMD"]),
        health=json.loads(health[1]),
        stop_signal=said["STOPSIGNAL"],
        port=int(said["EXPOSE"]),
    )
