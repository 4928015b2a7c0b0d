"""Refusals in Anthropic's envelope."""

from __future__ import annotations

from typing import Final

import msgspec

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


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    """Like `code`, the word of docs/errors.md; Anthropic has neither."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    error: Refusal
    request_id: str


def type_of(status: int) -> str:
    if found := _TYPES.get(status):
        return found
    return "invalid_request_error" if status < 500 else "api_error"
