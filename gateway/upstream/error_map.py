"""Every error of the HTTP client as an error of ours, 502 or 504. Nothing else looks at aiohttp's classes."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp import client_exceptions, http_exceptions

from gateway.errors import GatewayError, UpstreamBroke, UpstreamTimeout, UpstreamUnreachable

# The first class of an error's MRO that stands here decides. A test walks all of aiohttp's error classes.
ERRORS: Mapping[type[BaseException], tuple[type[GatewayError], str]] = {
    client_exceptions.ConnectionTimeoutError: (UpstreamTimeout, "no connection to the upstream in time"),
    client_exceptions.SocketTimeoutError: (UpstreamTimeout, "the upstream did not answer in time"),
    client_exceptions.ServerTimeoutError: (UpstreamTimeout, "the upstream did not answer in time"),
    client_exceptions.ServerDisconnectedError: (UpstreamBroke, "the upstream closed the connection"),
    client_exceptions.ServerFingerprintMismatch: (
        UpstreamUnreachable,
        "the upstream shows another certificate",
    ),
    client_exceptions.ClientSSLError: (UpstreamUnreachable, "no secure connection to the upstream"),
    client_exceptions.ClientConnectorDNSError: (
        UpstreamUnreachable,
        "the upstream's name cannot be resolved",
    ),
    client_exceptions.ClientConnectorError: (UpstreamUnreachable, "no connection to the upstream"),
    client_exceptions.ClientConnectionResetError: (UpstreamBroke, "the upstream closed the connection"),
    client_exceptions.ClientOSError: (UpstreamBroke, "the connection to the upstream broke"),
    client_exceptions.ClientConnectionError: (UpstreamUnreachable, "no connection to the upstream"),
    client_exceptions.ClientPayloadError: (UpstreamBroke, "the upstream broke off its reply"),
    client_exceptions.ClientHttpProxyError: (UpstreamUnreachable, "the proxy refused the connection"),
    client_exceptions.ClientResponseError: (UpstreamBroke, "the upstream's reply is not valid HTTP"),
    client_exceptions.InvalidURL: (UpstreamUnreachable, "the upstream's address is not valid"),
    client_exceptions.ClientError: (UpstreamBroke, "the upstream's reply could not be read"),
    http_exceptions.HttpProcessingError: (UpstreamBroke, "the upstream's reply is not valid HTTP"),
    ssl.SSLError: (UpstreamUnreachable, "no secure connection to the upstream"),
    TimeoutError: (UpstreamTimeout, "the upstream did not answer in time"),
    ConnectionError: (UpstreamBroke, "the connection to the upstream broke"),
    OSError: (UpstreamUnreachable, "no connection to the upstream"),
}

CLIENT_ERRORS = (aiohttp.ClientError, http_exceptions.HttpProcessingError, TimeoutError, OSError)


def map_error(error: BaseException, upstream: str) -> GatewayError:
    """The error of ours that tells the client what happened, without the upstream's address or key."""
    for base in type(error).__mro__:
        if base in ERRORS:
            kind, message = ERRORS[base]
            return kind(f"{upstream}: {message}")
    return UpstreamBroke(f"{upstream}: the upstream's reply could not be read")
