"""What a chat completion calls a field, and what the client of Responses calls it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from helexa.cortex.gateway.envelope import PassedOn
from helexa.cortex.gateway.translation.items import Origin
from helexa.protocol.errors import ErrorBody, HelexaError, body_of

_MESSAGE: Final = re.compile(r"messages\[(\d+)\](.*)\Z", re.DOTALL)
_CALL: Final = re.compile(r"\.tool_calls\[(\d+)\](.*)\Z", re.DOTALL)
_TOOL: Final = re.compile(r"(tools\[\d+\])\.function(?![A-Za-z_])(.*)\Z", re.DOTALL)
_QUOTED: Final = re.compile(r"`([A-Za-z_][^`\s]*)`")
_HERE: Final = (
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("tool_choice.allowed_tools", "tool_choice"),
    ("tool_choice.function", "tool_choice"),
    ("stream_options", "stream"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
    ("logprobs", "top_logprobs"),
    ("messages", "input"),
)
_OF_CALL: Final = {
    ".id": ".call_id",
    ".function.name": ".name",
    ".function.arguments": ".arguments",
}


def renamed(error: HelexaError, origins: Sequence[Origin]) -> HelexaError:
    """The same error with the client's names; the very same where it has none of the chat's."""

    def quoted(match: re.Match[str]) -> str:
        return f"`{name_of(match[1], origins)}`"

    said = said_of(error)
    param = said.param
    here = param if param is None else name_of(param, origins)
    message = _QUOTED.sub(quoted, error.message)
    if here == param and message == error.message:
        return error
    said = msgspec.structs.replace(said, message=message, param=here)
    retry_after = error.retry_after if isinstance(error, PassedOn) else _seconds(error)
    return PassedOn(msgspec.json.encode({"error": said}), said, error.status, retry_after)


def said_of(error: HelexaError) -> ErrorBody:
    """What is in its envelope."""
    return error.said if isinstance(error, PassedOn) else body_of(error)


def name_of(field: str, origins: Sequence[Origin]) -> str:
    """The client's name of a field of the chat completion."""
    if (match := _MESSAGE.match(field)) is not None:
        number = int(match[1])
        return _of_message(origins[number], match[2]) if number < len(origins) else "input"
    if (match := _TOOL.match(field)) is not None:
        return match[1] + match[2]
    for chat, here in _HERE:
        if field == chat or (field.startswith(chat) and field[len(chat)] in ".["):
            return here + field[len(chat) :]
    return field


def _of_message(origin: Origin, rest: str) -> str:
    if origin.is_opaque:
        return origin.content
    if (match := _CALL.match(rest)) is not None:
        number = int(match[1])
        at = origin.calls[number] if number < len(origin.calls) else origin.content
        return at + _OF_CALL.get(match[2], "")
    if rest.startswith(".reasoning_content"):
        return origin.thoughts + ".content"
    if rest == ".tool_call_id":
        return origin.content + ".call_id"
    if origin.is_output:
        rest = rest.replace(".content", ".output", 1)
    return origin.content + rest.replace(".image_url.url", ".image_url")


def _seconds(error: HelexaError) -> bytes | None:
    return None if error.retry_after_s is None else b"%d" % error.retry_after_s
