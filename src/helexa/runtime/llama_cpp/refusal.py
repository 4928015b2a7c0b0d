"""What llama.cpp's server means by an answer that is not 200, and by dying.

It says 500 to several mistakes of the caller, so the status alone decides
nothing; its words do. Its words may hold the path of the weights, which is the
operator's business and not the client's.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from helexa.protocol.errors import (
    BodyMalformed,
    CapabilityMissing,
    HelexaError,
    ModalityUnsupported,
    ModelLoading,
    PictureRefused,
    PromptTooLong,
    RequestRejected,
    RuntimeRefused,
)
from helexa.runtime import exits
from helexa.runtime.contract import Exit, ExitReason, ReplicaSpec
from helexa.runtime.openai.refusal import fit_to_show


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Body(msgspec.Struct):
    error: _Error


_body: Final = msgspec.json.Decoder(_Body)
_TOO_LONG: Final = re.compile(r"input \((\d+) tokens\) is (?:too large|larger)")
_MODALITY: Final = re.compile(r"(image|audio) input is not supported")
_NO_MEMORY: Final = re.compile(r"bad_alloc|length_error|failed to allocate", re.IGNORECASE)
_SCHEMA: Final = re.compile(
    r"\A(?:.*JSON schema (?:error|conversion failed)(?: at [^:]*)?|"
    r".*Automatic parser generation failed):\s*(.*)",
    re.DOTALL,
)
_PICTURE: Final = re.compile(r"Failed to load image|failed to decode image", re.IGNORECASE)
_FIELD: Final = re.compile(r"\AField '(\w+)': (?:\[json\.exception\.[\w.]+\] )?(.*)", re.DOTALL)
_OVERFLOW: Final = re.compile(r"number overflow parsing '([^']{0,40})")
_CALLER: Final = re.compile(
    r"Failed to parse messages|Failed to load image|failed to decode image|Invalid url|"
    r"unsupported content|Invalid base64|Unknown reasoning format|"
    r"Jinja Exception|json\.exception|Failed to tokenize",
    re.IGNORECASE,
)


def meaning(status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
    try:
        error = _body.decode(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return RuntimeRefused(reason=f"The runtime answered {status} without an explanation.")
    model = spec.files.model
    if error.type == "exceed_context_size_error":
        return PromptTooLong(tokens=error.n_prompt_tokens, tokens_max=error.n_ctx)
    if too_long := _TOO_LONG.search(error.message):
        return PromptTooLong(tokens=int(too_long[1]), tokens_max=spec.context_tokens)
    if modality := _MODALITY.search(error.message):
        return ModalityUnsupported(model=model, modality=modality[1])
    if error.type == "not_supported_error":
        return CapabilityMissing(model=model, capability="this endpoint")
    if status == 503:
        return ModelLoading(reason=f"{model!r} is starting; try again shortly.")
    if _NO_MEMORY.search(error.message):
        return RuntimeRefused(reason="The runtime ran out of memory on this request.")
    if (form := _of_form(error.message)) is not None:
        return form
    text = fit_to_show(error.message, spec)
    if status == 400 or _CALLER.search(error.message):
        return _callers(error.message, text)
    return RuntimeRefused(reason=f"The runtime answered {status}: {text}")


def _of_form(message: str) -> RequestRejected | None:
    """What it says of a schema or a grammar. It does not say whose: a tool's have one, too."""
    if found := _SCHEMA.search(message):
        return RequestRejected(
            reason=f"The runtime llama_cpp cannot follow the JSON schema: {found[1][:300]}",
            field="response_format",
        )
    if "custom grammar constraints with tools" in message:
        return RequestRejected(reason="`grammar` and `tools` exclude one another.", field="grammar")
    if "failed to parse grammar" in message:
        return RequestRejected(
            reason="The runtime llama_cpp cannot follow the grammar: it cannot be read, leads back "
            "to itself on the left, or repeats too much.",
            field="grammar",
        )
    return None


def _callers(message: str, shown: str) -> HelexaError:
    if _PICTURE.search(message):
        return PictureRefused(reason="A picture of the request cannot be decoded.")
    if found := _OVERFLOW.search(message):
        return BodyMalformed(
            reason=f"The number {found[1]} in the body is larger than any that llama_cpp reads."
        )
    if found := _FIELD.match(shown):
        return RequestRejected(
            reason=f"The runtime llama_cpp does not take `{found[1]}`: {found[2]}", field=found[1]
        )
    return RequestRejected(reason=shown)


_PHRASES: Final = (
    (re.compile(r"unknown model architecture", re.IGNORECASE), ExitReason.ARCHITECTURE_UNKNOWN),
    (
        re.compile(
            r"out of memory|bad_alloc|cannot allocate memory|failed to allocate|"
            r"unable to allocate|ErrorOutOfDeviceMemory",
            re.IGNORECASE,
        ),
        ExitReason.OUT_OF_MEMORY,
    ),
    (
        re.compile(
            r"does not divide n_embd_head|requires flash_attn|error: invalid argument|"
            r"error while handling argument",
            re.IGNORECASE,
        ),
        ExitReason.SETTINGS_UNSUITABLE,
    ),
    (
        re.compile(r"couldn't bind|failed to bind|address already in use", re.IGNORECASE),
        ExitReason.SOCKET_TAKEN,
    ),
    (re.compile(r"No module named '?xllamacpp", re.IGNORECASE), ExitReason.NOT_INSTALLED),
    (
        re.compile(r"error loading model|corrupted or incomplete", re.IGNORECASE),
        ExitReason.MODEL_UNREADABLE,
    ),
    (
        re.compile(r"failed to load (?:model|the model)|mmproj", re.IGNORECASE),
        ExitReason.MODEL_UNREADABLE,
    ),
)
_STAMP: Final = re.compile(r"\A[\d.]+ [A-Z] ")


def exit_of(status: int, log_tail: str) -> Exit:
    return exits.explained(status, log_tail, _PHRASES, without=_STAMP)
