"""Why a pull does not go on, in words for its operator, and whether another try helps."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MOST_S: Final = 300.0


class SourceFailed(Exception):
    """`final`: the same question gets the same answer. `retry_after_s` is the origin's wish."""

    def __init__(
        self, reason: str, *, final: bool = True, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.retry_after_s = retry_after_s


class OriginChanged(Exception):
    """What the origin has now is not what the download began with."""


def refused(
    status: int, headers: Mapping[str, str], where: str, *, with_token: bool, unix: float
) -> SourceFailed:
    """What an answer that holds no content means. `headers` by lower-case name; `where` is the
    server's name: a whole URL may hold a signature.
    """
    if status in (408, 425, 429) or status >= 500:
        wait = retry_after_s(headers.get("retry-after", ""), unix)
        words = "has had too many requests" if status == 429 else "has trouble"
        return SourceFailed(f"{where} {words} (HTTP {status})", final=False, retry_after_s=wait)
    return SourceFailed(
        _words(status, headers.get("x-error-code", ""), where, with_token=with_token)
    )


def _words(status: int, code: str, where: str, *, with_token: bool) -> str:
    token = "the token of neuron.hub_token_file" if with_token else "no token"
    match code, status:
        case "GatedRepo", _:
            if with_token:
                return f"{where} has not granted access to this repository to {token}"
            return (
                f"{where} grants this repository only to those who accepted its terms: accept "
                "them there, and name a file with your token in neuron.hub_token_file"
            )
        case "RepoNotFound", _:
            return f"{where} has no such repository, or shows it not with {token}"
        case "RevisionNotFound", _:
            return f"{where} has no such revision of this repository"
        case "EntryNotFound", _:
            return f"{where} has no such file in this repository"
        case _, 401:
            return f"{where} asks who this is (HTTP 401), and got {token}"
        case _, 403:
            return f"{where} does not allow this (HTTP 403), with {token}"
        case _, 404 | 410:
            return f"{where} has nothing there (HTTP {status})"
        case _:
            return f"{where} answered with HTTP {status}"


def retry_after_s(text: str, unix: float) -> float | None:
    """Seconds or a date, as HTTP has it; bounded, and None where it is neither."""
    if text.isascii() and text.strip().isdigit():
        return min(float(text), RETRY_AFTER_MOST_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, at - unix), RETRY_AFTER_MOST_S)
