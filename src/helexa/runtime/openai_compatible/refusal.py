"""What a server's refusal means to the client of this neuron, who never heard of that server.

The key is the neuron's, not the client's, and so are its rights, its credit and its rate:
what a server says of them is said to the operator's logs by status, and to the client as
what it is there, a server that does not serve.
"""

from __future__ import annotations

import re
import signal
from typing import Final

from helexa.protocol.errors import (
    Busy,
    CapabilityMissing,
    HelexaError,
    LoopDetected,
    ModelLoading,
    NoCapacity,
    PromptTooLong,
    RequestRejected,
    RuntimeRefused,
    UpstreamTimeout,
)
from helexa.runtime import exits
from helexa.runtime.contract import Exit, ExitReason, ReplicaSpec
from helexa.runtime.openai import refusal
from helexa.runtime.openai.refusal import ErrorWords

_OPERATORS: Final = {
    401: "does not take this node's key",
    402: "wants to be paid first",
    403: "does not let this node use it",
    407: "is behind a proxy that this node does not pass",
}
_CALLERS: Final = frozenset({400, 413, 415, 422})
_BUSY: Final = frozenset({429, 503, 529})
_LATE: Final = frozenset({408, 504, 524})
_GONE_WAIT_S: Final = 30

# vLLM, OpenAI, SGLang, llama-server and helexa, in this order, each with the most first or last.
_TOO_LONG: Final = (
    re.compile(r"maximum context length is (?P<most>\d+) tokens.*?(?:requested|in|has|least) "
               r"(?P<tokens>\d+)", re.DOTALL),
    re.compile(r"\((?P<tokens>\d+) tokens\).*?(?:context|limit)\D*\((?P<most>\d+) tokens\)",
               re.DOTALL),
    re.compile(r"is (?P<least>at least )?(?P<tokens>\d+) tokens; this model reads (?P<most>\d+)"),
)  # fmt: skip
_NO_MODEL: Final = re.compile(
    r"model.*(not found|not exist|unknown|no model named|not served|not loaded|not supported)",
    re.IGNORECASE | re.DOTALL,
)
_LOADING: Final = re.compile(r"\bloading\b|starting", re.IGNORECASE)

_PHRASES: Final[exits.Phrases] = (
    (re.compile(r"out of memory|OutOfMemory|Cannot allocate memory|bad_alloc", re.IGNORECASE),
     ExitReason.OUT_OF_MEMORY),
    (re.compile(r"address already in use", re.IGNORECASE), ExitReason.SOCKET_TAKEN),
    (re.compile(r"No module named|ModuleNotFoundError|command not found"),
     ExitReason.NOT_INSTALLED),
    (re.compile(r"unrecognized arguments|unknown (?:argument|option)|invalid argument"),
     ExitReason.SETTINGS_UNSUITABLE),
)  # fmt: skip


def meaning(status: int, body: bytes, spec: ReplicaSpec, *, runtime: str) -> HelexaError:  # noqa: PLR0911 - a table of statuses, one line each
    if status in _OPERATORS:
        # Not its words: they may quote the key.
        return RuntimeRefused(
            reason=f"The server that has {spec.files.model!r} {_OPERATORS[status]} ({status})."
        )
    found = refusal.words(body)
    text = _shown(found, spec)
    if status in _BUSY:
        return _busy(text, spec)
    if status in _LATE:
        return UpstreamTimeout(reason="The server that has this model gave up waiting.")
    if status == 508 or (found is not None and found.code == LoopDetected.code):
        return LoopDetected(f"{spec.files.model!r} leads back to where the request came from.")
    if found is None:
        return RuntimeRefused(reason=f"The server answered {status} without an explanation.")
    if (length := _too_long(text)) is not None and status < 502:
        return length
    if status == 404:
        if found.code == "model_not_found" or _NO_MODEL.search(text):
            return NoCapacity(
                reason=f"The server that had {spec.files.model!r} has it no longer.",
                wait_s=_GONE_WAIT_S,
            )
        return CapabilityMissing(
            model=spec.files.model, capability="this endpoint", runtime=runtime
        )
    if status in (405, 501):
        return CapabilityMissing(
            model=spec.files.model, capability="this endpoint", runtime=runtime
        )
    if status in _CALLERS:
        return RequestRejected(reason=text, field=found.field)
    return RuntimeRefused(reason=f"The server answered {status}: {text}")


def exit_of(status: int, log_tail: str) -> Exit:
    if status == 127:
        return Exit(reason=ExitReason.NOT_INSTALLED, detail="the command was not found")
    if status == 128 + signal.SIGTERM:
        # What a shell, and many a Python, makes of a SIGTERM that it was sent.
        status = -signal.SIGTERM
    return exits.explained(status, log_tail, _PHRASES)


def _busy(text: str, spec: ReplicaSpec) -> HelexaError:
    if _LOADING.search(text):
        return ModelLoading(reason=f"{spec.files.model!r} is starting; try again shortly.")
    return Busy(
        reason=f"The server that has {spec.files.model!r} takes no more requests now; "
        "try again shortly."
    )


def _too_long(text: str) -> PromptTooLong | None:
    for pattern in _TOO_LONG:
        if found := pattern.search(text):
            return PromptTooLong(
                tokens=int(found["tokens"]),
                tokens_max=int(found["most"]),
                is_least=bool(found.groupdict().get("least")),
            )
    return None


def _shown(found: ErrorWords | None, spec: ReplicaSpec) -> str:
    text = refusal.fit_to_show(found.message if found is not None else "", spec)
    files = spec.files
    return text.replace(files.called, files.model) if files.called else text
