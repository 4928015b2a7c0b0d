"""Refusals in Anthropic's envelope."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.protocol.errors import RequestRejected

_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Details(msgspec.Struct, frozen=True):
    """What Anthropic's clients look for, to go on without what is not to be had."""

    error_code: str
    unsupported: list[str]


class ThreadUnsupported(RequestRejected):
    """The client wants its conversation kept as a thread; told so, it sends all of it."""


THREAD: Final = Details("thread_unsupported_request", ["thread"])


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    """Like `code`, the word of docs/errors.md; Anthropic has neither."""
    details: Details | msgspec.UnsetType = msgspec.UNSET


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    error: Refusal
    request_id: str


def http_refusal(status: int, message: str) -> bytes:
    """For what an HTTP server refuses before a request has an id."""
    refusal = Refusal(type=type_of(status), message=message, code=f"http_{status}")
    return msgspec.json.encode(Refused(error=refusal, request_id=""))


def type_of(status: int) -> str:
    if found := _TYPES.get(status):
        return found
    return "invalid_request_error" if status < 500 else "api_error"
