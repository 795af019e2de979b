"""Writes the digests of the base images into docker/: `make pin-images`.

Each image that a Dockerfile's ARG or a compose file names by tag is looked up in its registry (a HEAD of its
manifest, with a token where one is asked for) and gets `@sha256:...` behind its tag. Run it where the
registries can be reached, look at the difference, and commit it.

Exit code 0: all are pinned; 1: an image could not be looked up, and nothing was written.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

FOLDER = Path(__file__).parent
HUB = "registry-1.docker.io"
# An index of platforms first: one digest for all of them.
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# `ARG NAME=image:tag` of a Dockerfile, `image: image:tag` of a compose file; our own images have no registry.
_NAMED = re.compile(
    r"^(?P<before>ARG [A-Z]+=|\s+image: )(?P<image>[^\s@]+:[^\s@]+)(?:@sha256:\w+)?$", re.MULTILINE
)
_OWN = ("terse-",)


@dataclass(frozen=True, slots=True)
class Image:
    """`python:3.11` is `library/python` of the hub."""

    registry: str
    repository: str
    tag: str


def parse_image(name: str) -> Image:
    """As docker reads it."""
    path, _, tag = name.rpartition(":")
    first, _, rest = path.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return Image(first, rest, tag)
    return Image(HUB, path if rest else f"library/{path}", tag)


def digest_of(client: httpx.Client, image: Image, scheme: str = "https") -> str:
    """`sha256:...` of the tag. Raises httpx.HTTPError, or ValueError when the registry tells none."""
    url = f"{scheme}://{image.registry}/v2/{image.repository}/manifests/{image.tag}"
    headers = {"accept": ", ".join(KINDS)}
    reply = client.head(url, headers=headers)
    if reply.status_code == 401:
        headers["authorization"] = f"Bearer {_token(client, reply.headers['www-authenticate'])}"
        reply = client.head(url, headers=headers)
    reply.raise_for_status()
    digest = str(reply.headers.get("docker-content-digest", ""))
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{url}: no digest in the answer")
    return digest


def _token(client: httpx.Client, challenge: str) -> str:
    """An anonymous one, from where the challenge says."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    reply = client.get(asked.pop("realm"), params=asked)
    reply.raise_for_status()
    told = reply.json()
    return str(told.get("token") or told["access_token"])


def pin(client: httpx.Client, files: list[Path], scheme: str = "https") -> dict[str, str]:
    """Rewrites the files and returns digest by image. Writes nothing when one image cannot be looked up."""
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    names = {found["image"] for text in texts.values() for found in _NAMED.finditer(text)}
    digests = {
        name: digest_of(client, parse_image(name), scheme)
        for name in sorted(names)
        if not name.startswith(_OWN)
    }

    def with_digest(found: re.Match[str]) -> str:
        digest = digests.get(found["image"])
        return f"{found['before']}{found['image']}@{digest}" if digest else found.group()

    for path, text in texts.items():
        path.write_text(_NAMED.sub(with_digest, text), encoding="utf-8")
    return digests


def main() -> None:
    """Pins all of docker/."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    files = sorted([*FOLDER.glob("Dockerfile.*"), *FOLDER.glob("compose*.yaml")])
    try:
        with httpx.Client(timeout=30, follow_redirects=True) as client:
            for name, digest in pin(client, files).items():
                print(f"{name}@{digest}")
    except (httpx.HTTPError, ValueError, KeyError) as error:
        print(f"nothing was pinned: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
