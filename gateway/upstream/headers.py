"""Which headers cross the gateway, and under which name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# RFC 9110 section 7.6.1, and what the connection's own library writes.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The client's secrets and its place in our network are nobody's business upstream.
_PRIVATE = frozenset(
    {
        "accept-encoding",
        "api-key",
        "authorization",
        "cookie",
        "forwarded",
        "via",
        "x-api-key",
        "x-litellm-api-key",
        "x-real-ip",
        "x-request-id",
    }
)
_PRIVATE_PREFIXES = ("x-terse-", "x-forwarded-")
# Encodings whose usage figures can be read in passing; others are not asked for.
_READABLE_ENCODINGS = frozenset({"gzip", "deflate", "identity"})

_REPLY_DROPPED = _HOP_BY_HOP | {"alt-svc", "date", "server", "set-cookie", "strict-transport-security"}
# The gateway says these itself; the upstream's go on under another name, as LiteLLM has it.
_REPLY_RENAMED_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "x-terse-")


def to_upstream(headers: Iterable[tuple[str, str]], *, stream: bool) -> list[tuple[str, str]]:
    """The client's headers (lower-case names) as they go upstream, without any key."""
    kept: list[tuple[str, str]] = []
    accepted = "identity"
    for name, value in headers:
        if name in _HOP_BY_HOP:
            continue
        if name == "accept-encoding" and not stream:
            accepted = _readable(value)
        if name not in _PRIVATE and not name.startswith(_PRIVATE_PREFIXES):
            kept.append((name, value))
    # A stream stays readable, so that an error can still be written into it when the upstream breaks off.
    kept.append(("accept-encoding", accepted))
    return kept


def _readable(accepted: str) -> str:
    kept = [item for item in accepted.split(",") if item.split(";")[0].strip().lower() in _READABLE_ENCODINGS]
    return ",".join(kept).strip() or "identity"


def from_upstream(raw: Iterable[tuple[bytes, bytes]]) -> Sequence[tuple[str, str]]:
    """The upstream's headers as they go to the client."""
    kept: list[tuple[str, str]] = []
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        if name in _REPLY_DROPPED:
            continue
        if name == "x-request-id" or name.startswith(_REPLY_RENAMED_PREFIXES):
            name = "llm_provider-" + name
        kept.append((name, raw_value.decode("latin-1")))
    return kept
