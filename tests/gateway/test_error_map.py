"""No error of the HTTP client is missed, whatever version of it is installed."""

from __future__ import annotations

import pytest
from aiohttp import client_exceptions, http_exceptions

from gateway.errors import GatewayError, UpstreamBroke, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.error_map import CLIENT_ERRORS, ERRORS, map_error


def classes_below(base: type[BaseException]) -> set[type[BaseException]]:
    found = {base}
    for child in base.__subclasses__():
        found |= classes_below(child)
    return found


ALL = classes_below(client_exceptions.ClientError) | classes_below(http_exceptions.HttpProcessingError)


@pytest.mark.parametrize("kind", sorted(ALL, key=lambda kind: kind.__name__))
def test_every_class_is_caught_and_mapped(kind: type[BaseException]) -> None:
    assert issubclass(kind, CLIENT_ERRORS)
    error = map_error(kind.__new__(kind), "up")
    assert type(error) in (UpstreamUnreachable, UpstreamTimeout, UpstreamBroke)
    assert error.message.startswith("up: ")
    # Only the catch-all of the tree may fall through to its base.
    nearest = next(base for base in kind.__mro__ if base in ERRORS)
    known = client_exceptions.ClientError
    assert nearest is not known or kind.__module__.startswith("aiohttp")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), UpstreamTimeout),
        (client_exceptions.ConnectionTimeoutError(), UpstreamTimeout),
        (client_exceptions.SocketTimeoutError(), UpstreamTimeout),
        (client_exceptions.ServerDisconnectedError(), UpstreamBroke),
        (client_exceptions.ClientPayloadError(), UpstreamBroke),
        (client_exceptions.ClientOSError(), UpstreamBroke),
        (ConnectionResetError(), UpstreamBroke),
        (OSError(), UpstreamUnreachable),
        (RuntimeError("secret address"), UpstreamBroke),
    ],
)
def test_what_each_means(error: BaseException, kind: type[GatewayError]) -> None:
    mapped = map_error(error, "up")
    assert type(mapped) is kind
    assert "secret" not in mapped.message
