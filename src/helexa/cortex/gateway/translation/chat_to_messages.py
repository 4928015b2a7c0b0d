"""A chat completion's answer as one of Anthropic's messages, whole or as events. Pure.

    thoughts, text, calls -> blocks; each is open until the next begins

Both ways of answering come to the same message, but where an engine mixes its thoughts into
its text: the whole answer of a chat has one of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from helexa.cortex.gateway.translation import chat, partial_json
from helexa.protocol.anthropic import answers
from helexa.protocol.anthropic.answers import (
    Counts,
    Message,
    Stopped,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ThinkingTokens,
    ToolUseBlock,
    Usage,
)
from helexa.protocol.errors import ErrorBody, RuntimeMalformed

_REASONS: Final[dict[str, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_EMPTY: Final = msgspec.Raw(b"{}")
_NONE, _TEXT, _THOUGHT, _CALL = range(4)

_arguments: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Choice(msgspec.Struct):
    stop_reason: str | int | None = None
    """vLLM's name for what SGLang calls `matched_stop`; others do not say it."""
    matched_stop: str | int | None = None


class _Stops(msgspec.Struct):
    choices: list[_Choice] = []


_stops: Final = msgspec.json.Decoder(_Stops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a request shapes its answer."""

    id: str
    """Of the message that is to come."""
    model: str
    stop_sequences: tuple[str, ...] = ()
    hides_thoughts: bool = False
    """The client wants to know that there were some, and not which."""


def message(body: bytes, asked: Asked) -> Message:
    """Of a whole completion. Raises RuntimeMalformed."""
    completion = chat.completion(body)
    if not completion.choices or (said := completion.choices[0].message) is None:
        raise RuntimeMalformed("The node sent an answer without a message.")
    finish = completion.choices[0].finish_reason
    content: list[TextBlock | ThinkingBlock | ToolUseBlock] = []
    if said.reasoning_content:
        content.append(ThinkingBlock("" if asked.hides_thoughts else said.reasoning_content))
    if text := (said.content or "") + (said.refusal or ""):
        content.append(TextBlock(text))
    calls = said.tool_calls or ()
    for at, call in enumerate(calls):
        name, arguments = _function(call)
        # Only the last can be cut off: the others were followed by something.
        found = _input(arguments, cut_off=finish == "length" and at == len(calls) - 1)
        content.append(ToolUseBlock(_id(call, asked, at), name, found))
    stop = _stop_in(body, asked)
    how = _stopped(finish, stop, called=bool(calls), refused=bool(said.refusal))
    return Message(
        id=asked.id,
        model=completion.model or asked.model,
        content=content,
        stop_reason=how.stop_reason,
        stop_sequence=how.stop_sequence,
        usage=Usage.of(counts(completion.usage)),
    )


def counts(said: chat.Counts | None) -> Counts:
    if said is None:
        return Counts()
    cached = max(0, min(said.cached, said.prompt_tokens))
    return Counts(
        input_tokens=said.prompt_tokens - cached,
        cache_read_input_tokens=cached,
        output_tokens=said.completion_tokens,
        output_tokens_details=ThinkingTokens(said.reasoning) if said.reasoning else None,
    )


class Events:
    """`feed` each payload of a chat's stream, then `end`; `error` is set where it cannot go on."""

    __slots__ = (
        "_asked", "_block", "_call", "_calls", "_finish", "_index", "_refused", "_started",
        "_stop", "_usage", "error",
    )  # fmt: skip

    def __init__(self, asked: Asked) -> None:
        self.error: ErrorBody | None = None
        self._asked = asked
        self._block = _NONE
        self._index = -1
        """Of the block that is open, or was last."""
        self._call = -1
        """The chat's index of the call that is open."""
        self._calls = 0
        self._started = False
        self._refused = False
        self._finish: str | None = None
        self._stop: str | None = None
        self._usage: chat.Counts | None = None

    def feed(self, payload: bytes) -> bytes:
        """The events that come of it. Raises RuntimeMalformed."""
        chunk = chat.completion(payload)
        if chunk.error is not None:
            self.error = chunk.error
            return b""
        if chunk.usage is not None:
            self._usage = chunk.usage
        out = b""
        if not self._started:
            self._started = True
            model = chunk.model or self._asked.model
            out = answers.started(Message(id=self._asked.id, model=model))
        for choice in chunk.choices:
            if choice.delta is not None:
                out += self._said(choice.delta)
            if choice.finish_reason is not None:
                self._finish = choice.finish_reason
                self._stop = _stop_in(payload, self._asked)
        return out

    def end(self) -> bytes:
        """The last events. Raises RuntimeMalformed where the answer has no end."""
        if self.error is not None:
            return b""
        if not self._started:
            raise RuntimeMalformed("The node sent an answer without a choice.")
        how = _stopped(self._finish, self._stop, called=self._calls > 0, refused=self._refused)
        return self._close() + answers.stopped(how, counts(self._usage))

    def _said(self, said: chat.Said) -> bytes:
        out = b""
        if thought := said.reasoning_content:
            if self._block != _THOUGHT:
                out += self._open(_THOUGHT, ThinkingBlock("", ""))
            if not self._asked.hides_thoughts:
                out += answers.thinking(self._index, thought)
        if text := said.content:
            if self._block != _TEXT:
                out += self._open(_TEXT, TextBlock(""))
            out += answers.text(self._index, text)
        if refusal := said.refusal:
            self._refused = True
            if self._block != _TEXT:
                out += self._open(_TEXT, TextBlock(""))
            out += answers.text(self._index, refusal)
        for call in said.tool_calls or ():
            out += self._called(call)
        return out

    def _called(self, call: chat.Call) -> bytes:
        out = b""
        index = call.index or 0
        if self._block != _CALL or index != self._call:
            name = call.function.name if call.function is not None else None
            if name is None:
                # Blocks come one after the other: what belongs to a closed one has no place.
                raise RuntimeMalformed("The node went on with a tool call that had ended.")
            out = self._open(_CALL, ToolUseBlock(_id(call, self._asked, self._calls), name, _EMPTY))
            self._call = index
            self._calls += 1
        if call.function is not None and call.function.arguments:
            out += answers.tool_input(self._index, call.function.arguments)
        return out

    def _open(self, kind: int, block: TextBlock | ThinkingBlock | ToolUseBlock) -> bytes:
        closed = self._close()
        self._block = kind
        self._index += 1
        return closed + answers.block_started(self._index, block)

    def _close(self) -> bytes:
        kind, self._block = self._block, _NONE
        if kind == _NONE:
            return b""
        signed = answers.signature(self._index) if kind == _THOUGHT else b""
        return signed + answers.block_stopped(self._index)


def _stopped(finish: str | None, stop: str | None, *, called: bool, refused: bool) -> Stopped:
    if finish is None:
        raise RuntimeMalformed("The node's answer has no end.")
    reason = _REASONS.get(finish, "end_turn")
    if reason == "end_turn":
        if called:
            # A choice that was made for the model ends with `stop` on some engines.
            return Stopped(stop_reason="tool_use")
        if refused:
            return Stopped(stop_reason="refusal")
        if stop is not None:
            return Stopped(stop_reason="stop_sequence", stop_sequence=stop)
    return Stopped(stop_reason=reason)


def _stop_in(payload: bytes, asked: Asked) -> str | None:
    """The client's own stop sequence that ended the answer, where the engine names it."""
    if not asked.stop_sequences or (
        b'"stop_reason"' not in payload and b'"matched_stop"' not in payload
    ):
        return None
    try:
        choices = _stops.decode(payload).choices
    except msgspec.MsgspecError:
        return None
    for choice in choices:
        for one in (choice.stop_reason, choice.matched_stop):
            if isinstance(one, str) and one in asked.stop_sequences:
                return one
    return None


def _function(call: chat.Call) -> tuple[str, str]:
    function = call.function
    if function is None or function.name is None:
        raise RuntimeMalformed("The node sent a tool call without a name.")
    return function.name, function.arguments or ""


def _id(call: chat.Call, asked: Asked, at: int) -> str:
    """The engine's own, since it has to know it again; some have none."""
    return call.id or f"toolu_{asked.id}_{at}"


def _input(arguments: str, *, cut_off: bool) -> msgspec.Raw:
    """As the engine wrote it. Raises RuntimeMalformed for what is no object."""
    if not arguments.strip():
        return _EMPTY
    try:
        _arguments.decode(arguments)
    except (msgspec.MsgspecError, RecursionError) as error:
        if cut_off:
            return msgspec.Raw(msgspec.json.encode(partial_json.completed(arguments)))
        raise RuntimeMalformed("The node sent a tool call whose input is no object.") from error
    return msgspec.Raw(arguments.encode())
