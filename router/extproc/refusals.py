"""Errors as the endpoint picker protocol has them: the status that says whose turn it is, and why it was dropped.

Full queues and waits that were too long are 429 here: the pool is saturated, and a client may try again; 503 says that
there is nobody to ask.
"""

from __future__ import annotations

from router.errors import ApiError
from router.extproc.messages import Headers
from router.extproc.names import DROPPED

_SATURATED = (429, b"rejected-saturated")
_DROPPED = {
    "no_replica": (503, b"rejected-no-endpoints"),
    "queue_full": _SATURATED,
    "tenant_queue_full": _SATURATED,
    "queue_timeout": (429, b"rejected-ttl-expired"),
    "shutting_down": (503, b"rejected-shutting-down"),
}
"""By the error's code."""


def as_picker(error: ApiError, request_id: bytes) -> tuple[ApiError, Headers]:
    """The error to answer with, and the headers of that answer."""
    headers: Headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id)]
    status, reason = _DROPPED.get(error.code or "", (error.status, b""))
    if reason:
        headers.append((DROPPED, reason))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    if status == error.status:
        return error, headers
    told = ApiError(status, error.message, type="rate_limit_error", param=error.param, code=error.code)
    return told, headers


def no_endpoint() -> ApiError:
    """Nobody is there to ask, or nobody whom the gateway allows."""
    return ApiError(503, "No healthy replica may serve this request.", type="service_unavailable", code="no_replica")


def not_available() -> ApiError:
    """The client would rather hear so than wait for a prompt to be computed."""
    message = "No replica holds the beginning of this prompt."
    return ApiError(412, message, type="precondition_failed", code="not_cached")
