"""Calls of an assistant and the results that answer them, as far as they are surely wrong.

OpenAI refuses what is refused here. An engine lays it out all the same, and the model reads
a result of nothing. What has to be asked for is whose result it is: the order of messages is
the client's business, and so are calls without ids, as some engines write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helexa.protocol.errors import BodyMalformed


class Call(Protocol):
    @property
    def id(self) -> str | None: ...


class Message(Protocol):
    @property
    def role(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[Call] | None: ...
    @property
    def tool_call_id(self) -> str | None: ...


def check(messages: Sequence[Message]) -> None:
    """Raises BodyMalformed for a result without a call, and for a last call without a result."""
    called: set[str] = set()
    are_named = True
    last: int | None = None
    answered: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "assistant":
            last, answered = index, set()
            ids = [call.id for call in message.tool_calls or ()]
            are_named = are_named and all(ids)
            called.update(filter(None, ids))
        elif message.role == "tool":
            if are_named:
                _check_result(message.tool_call_id, called, f"messages[{index}].tool_call_id")
            answered.add(message.tool_call_id or "")
    if last is None or not (calls := messages[last].tool_calls):
        return
    # Nothing follows, so there is nothing to answer; or some have an answer and others none.
    if last == len(messages) - 1 or are_named:
        _check_answered(calls, answered, f"messages[{last}].tool_calls")


def _check_result(of: str | None, called: set[str], field: str) -> None:
    if not of:
        raise BodyMalformed(
            reason=f"`{field}` is missing: a result says which call it is of.", field=field
        )
    if of not in called:
        raise BodyMalformed(
            reason=f"`{field}` is {of[:80]!r}, and no call before it has this id.", field=field
        )


def _check_answered(calls: Sequence[Call], answered: set[str], where: str) -> None:
    for at, call in enumerate(calls):
        if (call.id or "") not in answered:
            field = f"{where}[{at}].id" if call.id else f"{where}[{at}]"
            raise BodyMalformed(
                reason=f"The call in `{where}[{at}]` has no result, and each needs one before the "
                "model goes on.",
                field=field,
            )
