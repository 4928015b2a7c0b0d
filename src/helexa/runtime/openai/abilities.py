"""What a request asks of an engine beyond plain text, held against what the engine can do.

An engine that lacks something mostly ignores the field that asks for it, and a client
would take the answer for what it wanted. So the field is refused by its name, and the
refusal names the runtime, since another one may serve the same model with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, CapabilityMissing
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Ability, Capabilities, ReplicaSpec

_Asks = Callable[[Any], bool]


def check(raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> None:
    """Raises CapabilityMissing for what `offered` lacks, BodyMalformed for what makes no sense."""
    for name, ability, kind, asks, said in _FIELDS:
        if name not in raw or ability in offered.abilities:
            continue
        value = bodies.value(raw, name, kind)
        if value is not None and asks(value):
            raise missing(said, name, spec, runtime)
    _check_format(raw, spec, offered, runtime)
    _check_tools(raw, spec, offered, runtime)


def missing(said: str, field: str, spec: ReplicaSpec, runtime: str) -> CapabilityMissing:
    return CapabilityMissing(model=spec.files.model, capability=said, runtime=runtime, field=field)


class Function(msgspec.Struct):
    name: str


class Named(msgspec.Struct):
    """A `tool_choice` that names one."""

    function: Function
    type: str = "function"


_CHOICES: Final = ("none", "auto", "required")


class _Format(msgspec.Struct):
    type: str


_FORMATS: Final[Mapping[str, tuple[Ability, str] | None]] = {
    "text": None,
    "json_object": (Ability.JSON_OBJECT, "answers that are a JSON object"),
    "json_schema": (Ability.JSON_SCHEMA, "answers by a JSON schema"),
}


def _check_format(
    raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities, runtime: str
) -> None:
    wanted = bodies.value(raw, "response_format", _Format)
    if wanted is None:
        return
    if wanted.type not in _FORMATS:
        raise BodyMalformed(
            reason=f"`response_format.type` is one of {', '.join(_FORMATS)}.",
            field="response_format.type",
        )
    needs = _FORMATS[wanted.type]
    if needs is not None and needs[0] not in offered.abilities:
        raise missing(needs[1], "response_format", spec, runtime)


def _check_tools(
    raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities, runtime: str
) -> None:
    choice = bodies.value(raw, "tool_choice", str | Named)
    tools = bodies.value(raw, "tools", list[msgspec.Raw])
    if isinstance(choice, str) and choice not in _CHOICES:
        raise BodyMalformed(
            reason="`tool_choice` is `none`, `auto`, `required` or names a function.",
            field="tool_choice",
        )
    if choice == "none" or not (tools or choice):
        return
    if tools and Ability.TOOLS not in offered.abilities:
        raise missing("tools", "tools", spec, runtime)
    if choice not in (None, "auto") and Ability.TOOL_CHOICE not in offered.abilities:
        raise missing("tool calls that are sure to come", "tool_choice", spec, runtime)


def _set(value: Any) -> bool:
    return bool(value)


def _given(value: Any) -> bool:
    del value
    return True


_FIELDS: Final[tuple[tuple[str, Ability, Any, _Asks, str], ...]] = (
    ("grammar", Ability.GRAMMAR, str, _set, "grammars"),
    ("logprobs", Ability.LOGPROBS, bool | int, _set, "log probabilities"),
    ("top_logprobs", Ability.LOGPROBS, int, _set, "log probabilities"),
    ("n", Ability.CHOICES, int, lambda value: value > 1, "more than one choice"),
    ("best_of", Ability.CHOICES, int, lambda value: value > 1, "more than one choice"),
    ("seed", Ability.SEED, int, _given, "seeds"),
    ("frequency_penalty", Ability.PENALTIES, float, _set, "penalties"),
    ("presence_penalty", Ability.PENALTIES, float, _set, "penalties"),
    ("logit_bias", Ability.LOGIT_BIAS, dict[str, float], _set, "a bias of tokens"),
    ("dimensions", Ability.DIMENSIONS, int, _given, "vectors of another length"),
    ("continue_final_message", Ability.CONTINUE_TEXT, bool, _set, "going on with a message"),
)
