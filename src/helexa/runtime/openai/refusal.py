"""What an OpenAI-shaped error means; the runtime's own file says what its words add to that."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from helexa.protocol.errors import (
    CapabilityMissing,
    HelexaError,
    ModelLoading,
    RequestRejected,
    RuntimeRefused,
)
from helexa.runtime.contract import ReplicaSpec

TEXT_CHARS_MAX: Final = 500
_CALLERS: Final = frozenset({400, 413, 422})


class ErrorWords(msgspec.Struct):
    """Of an error, as most servers write it."""

    message: str = ""
    type: str | None = ""
    param: Any = None
    code: Any = None

    @property
    def field(self) -> str | None:
        """The one of the request that it is about."""
        return self.param if isinstance(self.param, str) else None


class _Body(msgspec.Struct):
    error: ErrorWords | str | None = None
    message: str = ""
    detail: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def words(body: bytes) -> ErrorWords | None:
    """None where the body is no error in any shape that is known."""
    try:
        found = _body.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found.error, ErrorWords):
        return found.error
    text = found.error or found.message or (str(found.detail) if found.detail else "")
    return ErrorWords(message=text) if text else None


def meaning(status: int, body: bytes, spec: ReplicaSpec, *, runtime: str) -> HelexaError:
    found = words(body)
    if found is None:
        return RuntimeRefused(reason=f"The runtime answered {status} without an explanation.")
    text = fit_to_show(found.message, spec)
    if status in _CALLERS:
        return RequestRejected(reason=text, field=found.field)
    if status in (404, 405, 501):
        return CapabilityMissing(
            model=spec.files.model, capability="this endpoint", runtime=runtime
        )
    if status == 503:
        return ModelLoading(reason=f"{spec.files.model!r} is starting; try again shortly.")
    return RuntimeRefused(reason=f"The runtime answered {status}: {text}")


def fit_to_show(message: str, spec: ReplicaSpec) -> str:
    """Without paths, which are the operator's business, and not longer than a client reads."""
    for path in (spec.files.weights, spec.files.projector):
        if path is not None and str(path) not in ("", "."):
            message = message.replace(str(path), spec.files.model)
    # A template's failure is told with a picture of its source; the last line is the reason.
    lines = [line for line in message.splitlines() if line.strip(" -^")]
    if len(lines) > 1:
        message = f"{lines[0].strip()} {lines[-1].strip()}"
    return message[:TEXT_CHARS_MAX] or "no reason given"
