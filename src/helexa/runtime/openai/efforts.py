"""`reasoning_effort`: `none` is true of every model or kept, other words are a template's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Ability, Capabilities, ReplicaSpec
from helexa.runtime.openai import abilities

NONE: Final = "none"
_EFFORTS: Final = (NONE, "minimal", "low", "medium", "high", "xhigh", "max")
_SETTING: Final = "setting how much it thinks, other than `none`"


def read(raw: bodies.Fields, spec: ReplicaSpec, *, runtime: str) -> str | None:
    """Raises BodyMalformed for no such word, CapabilityMissing where it would change nothing."""
    effort: str | None = bodies.value(raw, "reasoning_effort", str)
    if effort is not None and effort not in _EFFORTS:
        raise BodyMalformed(
            reason=f"`reasoning_effort` is one of {', '.join(_EFFORTS)}.", field="reasoning_effort"
        )
    if effort not in (None, NONE) and "reasoning_effort" not in spec.files.chat_template:
        raise abilities.missing(_SETTING, "reasoning_effort", spec, runtime)
    return effort


def not_of_texts(raw: bodies.Fields, spec: ReplicaSpec, *, runtime: str) -> None:
    """A text is gone on with without thoughts; only chats have them."""
    if read(raw, spec, runtime=runtime) not in (None, NONE):
        raise abilities.missing(_SETTING, "reasoning_effort", spec, runtime)
    raw.pop("reasoning_effort", None)


def taken_out(
    raw: bodies.Fields,
    spec: ReplicaSpec,
    offered: Capabilities,
    *,
    runtime: str,
    words: Collection[str] = ("enable_thinking", "reasoning_effort"),
) -> dict[str, Any]:
    """What the template of a chat is told instead, for an engine that does not know the field.

    `words` are those that the engine hands to a template.
    """
    effort = read(raw, spec, runtime=runtime)
    raw.pop("reasoning_effort", None)
    if effort is None or (effort == NONE and Ability.REASONING not in offered.abilities):
        return {}
    template = spec.files.chat_template
    options = bodies.value(raw, "chat_template_kwargs", dict[str, Any]) or {}
    if effort == NONE and "enable_thinking" in template and "enable_thinking" in words:
        options = {**options, "enable_thinking": False}
    elif "reasoning_effort" in template and "reasoning_effort" in words:
        options = {**options, "reasoning_effort": effort}
    else:
        said = "answers without thoughts" if effort == NONE else _SETTING
        raise abilities.missing(said, "reasoning_effort", spec, runtime)
    return {"chat_template_kwargs": options}
