"""What vLLM means by an answer that is not 200, by an error event, and by dying.

Its errors have OpenAI's shape, with the name of a Python exception as the type and the
status as the code. It says why it died far above its last line, in the words of the
process that knows; the server's own last line only says that the engine did not start.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.protocol.errors import (
    HelexaError,
    ModalityUnsupported,
    PromptTooLong,
    RequestRejected,
    RuntimeExited,
    RuntimeRefused,
)
from helexa.runtime import exits
from helexa.runtime.contract import Exit, ExitReason, ReplicaSpec
from helexa.runtime.openai import refusal

NAME: Final = "vllm"

_WINDOW: Final = re.compile(r"(?:maximum )?context length (?:is|of) (?:only )?(\d+)")
_ASKED: Final = re.compile(
    r"prompt contains (?:at least )?(\d+)|(\d+) (?:input|prompt) tokens|requested (\d+) tokens|"
    r"\(length (\d+)\)|has (\d+) tokens"
)
_NOT_SEEING: Final = re.compile(r"is not a multimodal model|[Aa]t most 0 (image|audio|video)")
_ENGINE_DEAD: Final = re.compile(r"EngineCore|EngineDeadError|engine is dead", re.IGNORECASE)
_PARAMETER: Final = re.compile(r" \(parameter=[^()]*\)\Z")


def meaning(status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
    found = refusal.words(body)
    if found is None:
        return refusal.meaning(status, body, spec, runtime=NAME)
    text = found.message
    # An error inside a stream has no status of its own, but says in `code` what it would be.
    status = found.code if status == 500 and isinstance(found.code, int) else status
    if status < 500:
        if (too_long := _too_long(text)) is not None:
            return too_long
        if modality := _NOT_SEEING.search(text):
            return ModalityUnsupported(model=spec.files.model, modality=modality[1] or "image")
        if status in (400, 413, 422):
            shown = refusal.fit_to_show(_PARAMETER.sub("", text), spec)
            return RequestRejected(reason=shown, field=found.param)
    if status >= 500 and _ENGINE_DEAD.search(text):
        return RuntimeExited(
            reason="The model's runtime broke off while it worked on this request."
        )
    if status == 404:
        # Its name is ours, so this is no question of what the client may ask for.
        return RuntimeRefused(reason=f"The runtime answered 404: {refusal.fit_to_show(text, spec)}")
    return refusal.meaning(status, body, spec, runtime=NAME)


def _too_long(text: str) -> PromptTooLong | None:
    """It stops counting at the first token too many, so the number may be a lower bound."""
    window, asked = _WINDOW.search(text), _ASKED.search(text)
    if window is None or asked is None:
        return None
    tokens = int(next(number for number in asked.groups() if number is not None))
    return PromptTooLong(tokens=tokens, tokens_max=int(window[1]))


_PHRASES: Final[exits.Phrases] = (
    (
        re.compile(
            r"is not installed in|No module named '?vllm|No package metadata was found for vllm"
        ),
        ExitReason.NOT_INSTALLED,
    ),
    (
        re.compile(
            r"are not supported for now|does not recognize this architecture|"
            r"has no vLLM implementation|"
            r"Model architectures? .* (?:not supported|failed to be inspected)|"
            r"is not compatible with vLLM",
            re.IGNORECASE,
        ),
        ExitReason.ARCHITECTURE_UNKNOWN,
    ),
    (
        re.compile(
            r"KV cache is needed|No available memory for the cache blocks|"
            r"is larger than the maximum number of tokens that can be stored in KV cache|"
            r"greater than the derived max_model_len|must be divisible by|not divisible by|"
            r"exceed the (?:total )?number of (?:available )?GPUs|World size .* is larger than|"
            r"error: (?:unrecognized arguments|argument|ambiguous option)|"
            r"not supported (?:on|by|for) (?:the )?(?:current|this|CPU)|"
            r"Ray (?:is not installed|cluster)|placement group",
            re.IGNORECASE,
        ),
        ExitReason.SETTINGS_UNSUITABLE,
    ),
    (
        re.compile(
            r"out of memory|OutOfMemoryError|MemoryError|bad_alloc|cannot allocate memory|"
            r"can't allocate memory|is less than (?:desired|requested)|Not enough memory",
            re.IGNORECASE,
        ),
        ExitReason.OUT_OF_MEMORY,
    ),
    (
        re.compile(r"address already in use|could not bind|EADDRINUSE", re.IGNORECASE),
        ExitReason.SOCKET_TAKEN,
    ),
    (
        re.compile(
            r"SafetensorError|Error while deserializing header|Cannot find any model weights|"
            r"JSONDecodeError|Can't load (?:the configuration|tokenizer)|\AOSError: |"
            r"Unrecognized model in|Invalid repository ID|weights were not initialized|"
            r"(?:size|shape) mismatch|no config file found|Exception: data did not match",
            re.IGNORECASE,
        ),
        ExitReason.MODEL_UNREADABLE,
    ),
    (
        re.compile(r"\A *Value error, |validation errors? for \w+Config"),
        ExitReason.SETTINGS_UNSUITABLE,
    ),
    (re.compile(r"died unexpectedly"), ExitReason.KILLED),
)
_STAMP: Final = re.compile(
    r"\A(?:\([\w -]+ pid=\d+\) )?(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[\w.]+:\d+\] )?"
)


def exit_of(status: int, log_tail: str) -> Exit:
    return exits.explained(status, log_tail, _PHRASES, without=_STAMP)
