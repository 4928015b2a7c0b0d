"""`tools` and `tool_choice` as a client wrote them, read once for every engine.

What is wrong with them is said here, by the name of the field: engines answer 500 to
some of it and nothing at all to the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from helexa.protocol.errors import BodyMalformed, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.openai import schemas

Choice: TypeAlias = Literal["none", "auto", "required"]

_CHOICES: Final = ("none", "auto", "required")
_NAME: Final = re.compile(r"[\w.:/-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    raw: msgspec.Raw
    """As the client wrote it."""
    parameters: dict[str, Any]
    """Empty where it said none."""
    is_strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What may and what must be called."""

    choice: Choice
    tools: Sequence[Tool]
    """To choose from: of those that were sent, the ones that `tool_choice` leaves."""
    allows_some: bool
    """`tool_choice` is a list of them."""
    is_one: bool
    """At most one call is wanted."""


class _Function(msgspec.Struct):
    name: str
    parameters: Any = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: msgspec.Raw = msgspec.Raw()


class _Name(msgspec.Struct):
    name: str


class _Named(msgspec.Struct):
    type: str = "function"
    function: _Name | None = None


class _Allowed(msgspec.Struct):
    mode: str
    tools: list[_Named]


class _Chosen(msgspec.Struct):
    type: str = "function"
    function: _Name | None = None
    allowed_tools: _Allowed | None = None


def read(raw: bodies.Fields) -> Wish | None:
    """None where nothing is said of tools. Raises BodyMalformed or RequestRejected."""
    sent = bodies.value(raw, "tools", list[msgspec.Raw])
    chosen = bodies.value(raw, "tool_choice", str | _Chosen)
    parallel = bodies.value(raw, "parallel_tool_calls", bool)
    if sent is None and chosen is None:
        return None
    if sent == []:
        raise BodyMalformed(reason="`tools` is empty; leave it out instead.", field="tools")
    tools = [_tool(each, f"tools[{at}]") for at, each in enumerate(sent or ())]
    _check_names(tools)
    choice, left = _choice(chosen, tools)
    if choice == "required" and not tools:
        raise RequestRejected(
            reason="`tool_choice` asks for a call and `tools` has nothing to call.",
            field="tool_choice",
        )
    names_one = isinstance(chosen, _Chosen) and chosen.function is not None
    return Wish(
        choice=choice,
        tools=left,
        allows_some=isinstance(chosen, _Chosen) and chosen.allowed_tools is not None,
        is_one=parallel is False or names_one,
    )


def _choice(chosen: str | _Chosen | None, tools: list[Tool]) -> tuple[Choice, list[Tool]]:
    if chosen is None:
        return "auto", tools
    if isinstance(chosen, str):
        if chosen not in _CHOICES:
            raise _choice_unknown()
        return cast("Choice", chosen), tools
    if chosen.type == "function" and chosen.function is not None:
        return "required", _picked([chosen.function.name], tools)
    allowed = chosen.allowed_tools
    if chosen.type == "allowed_tools" and allowed is not None:
        if allowed.mode not in ("auto", "required"):
            raise BodyMalformed(
                reason="`tool_choice.allowed_tools.mode` is `auto` or `required`.",
                field="tool_choice.allowed_tools.mode",
            )
        names = [one.function.name for one in allowed.tools if one.function is not None]
        return cast("Choice", allowed.mode), _picked(names, tools)
    raise _choice_unknown()


def _choice_unknown() -> BodyMalformed:
    return BodyMalformed(
        reason="`tool_choice` is `none`, `auto`, `required`, names a function or allows some.",
        field="tool_choice",
    )


def _picked(names: list[str], tools: list[Tool]) -> list[Tool]:
    known = {tool.name: tool for tool in tools}
    for name in names:
        if name not in known:
            raise RequestRejected(
                reason=f"`tool_choice` asks for a call of {name[:128]!r}, and `tools` has nothing "
                "to call by that name.",
                field="tool_choice",
            )
    if not names:
        raise RequestRejected(reason="`tool_choice` allows nothing.", field="tool_choice")
    return [tool for tool in tools if tool.name in names]


def _tool(raw: msgspec.Raw, where: str) -> Tool:
    outer = bodies.value({where: raw}, where, _Tool)
    if outer is None or outer.type != "function" or not bytes(outer.function):
        raise RequestRejected(
            reason=f"Only functions are called here: `{where}` needs the type `function` and a "
            "`function`.",
            field=f"{where}.type",
        )
    where = f"{where}.function"
    function = bodies.value({where: outer.function}, where, _Function)
    if function is None or not _NAME.fullmatch(function.name):
        raise RequestRejected(
            reason=f"`{where}.name` is 1 to 128 letters, digits, `_`, `-`, `.`, `:` or `/`.",
            field=f"{where}.name",
        )
    parameters = {} if function.parameters is None else function.parameters
    schemas.check(parameters, f"{where}.parameters")
    if parameters.get("type", "object") != "object":
        raise RequestRejected(
            reason="The parameters of a function are an object.", field=f"{where}.parameters.type"
        )
    return Tool(name=function.name, raw=raw, parameters=parameters, is_strict=bool(function.strict))


def _check_names(tools: list[Tool]) -> None:
    seen: set[str] = set()
    for at, tool in enumerate(tools):
        if tool.name in seen:
            raise RequestRejected(
                reason=f"Two tools are called {tool.name!r}.", field=f"tools[{at}].function.name"
            )
        seen.add(tool.name)
