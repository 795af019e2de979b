"""The gateway's errors: status, type and code sit on the class. Only this file knows HTTP status codes.

GatewayError
├── BadRequest 400            invalid JSON, a field of the wrong type
│   ├── ContextWindowExceeded 400   does not fit the model, even shortened
├── Unauthorized 401          no key, unknown key, expired or blocked key
├── Forbidden 403             the key or team may not use this model or this endpoint
├── NotFound 404              unknown model, path or object
├── Conflict 409              somebody else changed it meanwhile
├── BodyTooLarge 413
├── RateLimited 429           rate_limit_exceeded, with retry-after
├── BudgetExceeded 429        budget_exceeded, with retry-after
├── InternalError 500
├── UpstreamUnreachable 502
├── UpstreamBroke 502         broke off, or sent what is no valid reply
├── Unavailable 503           draining, store gone in fail-closed mode, compressor gone in fail-closed mode
└── UpstreamTimeout 504
"""

from __future__ import annotations

from collections.abc import Mapping


class GatewayError(Exception):
    """Becomes an error response in the shape of the surface that was called."""

    status = 500
    type = "internal_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.headers = dict(headers or {})


class BadRequest(GatewayError):
    """The request cannot be understood; the message names what and where."""

    status, type, code = 400, "invalid_request_error", "invalid_request"


class ContextWindowExceeded(BadRequest):
    """The request does not fit the model's context window."""

    code = "context_length_exceeded"


class Unauthorized(GatewayError):
    """No usable key."""

    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(GatewayError):
    """A good key that may not do this."""

    status, type, code = 403, "permission_error", "model_access_denied"


class NotFound(GatewayError):
    """Unknown model, path or object."""

    status, type, code = 404, "invalid_request_error", "not_found"


class Conflict(GatewayError):
    """Changed by somebody else since it was read."""

    status, type, code = 409, "conflict_error", "conflict"


class BodyTooLarge(GatewayError):
    """The body is over the limit."""

    status, type, code = 413, "invalid_request_error", "body_too_large"


class RateLimited(GatewayError):
    """Too many requests or tokens a minute, or too many at once."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class BudgetExceeded(GatewayError):
    """The budget is spent."""

    status, type, code = 429, "budget_error", "budget_exceeded"


class InternalError(GatewayError):
    """A bug in Terse."""

    status, type, code = 500, "internal_error", "internal_error"


class UpstreamUnreachable(GatewayError):
    """No connection to the upstream."""

    status, type, code = 502, "upstream_error", "upstream_unreachable"


class UpstreamBroke(GatewayError):
    """The upstream broke off, or sent what is no valid reply."""

    status, type, code = 502, "upstream_error", "upstream_broke"


class Unavailable(GatewayError):
    """Cannot serve now."""

    status, type, code = 503, "service_unavailable", "unavailable"


class UpstreamTimeout(GatewayError):
    """The upstream did not answer in time."""

    status, type, code = 504, "upstream_error", "upstream_timeout"
