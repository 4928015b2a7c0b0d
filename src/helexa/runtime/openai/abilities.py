"""What a request asks of an engine beyond plain text, held against what the engine can do.

An engine that lacks something mostly ignores the field that asks for it, and a client
would take the answer for what it wanted. So the field is refused by its name, and the
refusal names the runtime, since another one may serve the same model with it. What is
not refused and yet not acted upon changes nothing in an answer; docs/http-api.md lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from helexa.protocol.errors import CapabilityMissing, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Ability, Capabilities, ReplicaSpec
from helexa.runtime.openai import bounds, numbers, schemas, structure, tools

_Asks = Callable[[Any], bool]


def check(
    raw: bodies.Fields,
    spec: ReplicaSpec,
    offered: Capabilities,
    *,
    runtime: str,
    takes: Collection[str] = (),
) -> None:
    """Raises CapabilityMissing for what `offered` lacks, BodyMalformed for what makes no sense.

    `takes` are fields that no engine has to have and this one obeys.
    """
    numbers.check(raw, spec)
    for name, ability, kind, asks, said in _FIELDS:
        if name not in raw:
            continue
        # Also where the engine can do it: some take a field of the wrong kind for none at all.
        value = bodies.value(raw, name, kind)
        if value is not None and asks(value) and ability not in offered.abilities:
            raise missing(said, name, spec, runtime)
    for name, kind, asks, said in _UNUSUAL:
        if name in raw and name not in takes:
            value = bodies.value(raw, name, kind)
            if value is not None and asks(value):
                raise missing(said, name, spec, runtime)
    for name, engines in _OWN_WAYS.items():
        if runtime not in engines and bodies.value(raw, name, msgspec.Raw) is not None:
            raise missing("a form of the answer that is asked for in this way", name, spec, runtime)
    for name, instead in _OLD.items():
        if bodies.value(raw, name, msgspec.Raw) is not None:
            raise RequestRejected(
                reason=f"`{name}` is a form that is not taken here; send `{instead}`.",
                field=name,
            )
    bounds.check_fields(raw)
    _check_schemas(raw)
    _check_format(raw, spec, offered, runtime)
    _check_tools(raw, spec, offered, runtime)


def without_idle(raw: bodies.Fields) -> None:
    """Take out of a checked body what changes no answer, by design or by its value.

    Engines that are strict about what they do not know would refuse it, others pass it on.
    """
    for name in (*_IGNORED, *OF_THE_WAY, *(one[0] for one in _UNUSUAL), *_OLD):
        raw.pop(name, None)
    if not bodies.value(raw, "tools", list[msgspec.Raw]):
        raw.pop("parallel_tool_calls", None)


def missing(said: str, field: str, spec: ReplicaSpec, runtime: str) -> CapabilityMissing:
    return CapabilityMissing(model=spec.files.model, capability=said, runtime=runtime, field=field)


def _check_schemas(raw: bodies.Fields) -> None:
    """Those that stand elsewhere than in `response_format`."""
    for name in ("json_schema", "guided_json"):
        if isinstance(found := bodies.value(raw, name, Any), dict):
            schemas.check(found, name)
    found = bodies.value(raw, "structured_outputs", Any)
    if isinstance(found, dict) and isinstance(found.get("json"), dict):
        schemas.check(found["json"], "structured_outputs.json")


def _check_format(
    raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities, runtime: str
) -> None:
    form = structure.read(raw)
    if form is None:
        return
    ability, said = _FORMATS[form.kind]
    if ability not in offered.abilities:
        raise missing(said, "response_format", spec, runtime)


def _check_tools(
    raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities, runtime: str
) -> None:
    wish = tools.read(raw)
    if wish is None or wish.choice == "none" or not wish.tools:
        return
    if wish.choice == "required":
        if Ability.TOOL_CHOICE not in offered.abilities:
            raise missing("tool calls that are sure to come", "tool_choice", spec, runtime)
    elif Ability.TOOLS not in offered.abilities:
        raise missing("tools", "tools", spec, runtime)


def _set(value: Any) -> bool:
    return bool(value)


def _given(value: Any) -> bool:
    del value
    return True


def _above_one(value: int) -> bool:
    return value > 1


_FORMATS: Final[Mapping[str, tuple[Ability, str]]] = {
    "json_object": (Ability.JSON_OBJECT, "answers that are a JSON object"),
    "json_schema": (Ability.JSON_SCHEMA, "answers by a JSON schema"),
}
_FIELDS: Final[tuple[tuple[str, Ability, Any, _Asks, str], ...]] = (
    ("grammar", Ability.GRAMMAR, str, _set, "grammars"),
    ("logprobs", Ability.LOGPROBS, bool | int, _set, "log probabilities"),
    ("top_logprobs", Ability.LOGPROBS, int, _set, "log probabilities"),
    ("n", Ability.CHOICES, int, _above_one, "more than one choice"),
    ("seed", Ability.SEED, int, _given, "seeds"),
    ("frequency_penalty", Ability.PENALTIES, float, _set, "penalties"),
    ("presence_penalty", Ability.PENALTIES, float, _set, "penalties"),
    ("logit_bias", Ability.LOGIT_BIAS, dict[str, float], _set, "a bias of tokens"),
    ("dimensions", Ability.DIMENSIONS, int, _given, "vectors of another length"),
    ("continue_final_message", Ability.CONTINUE_TEXT, bool | str, _set, "going on with a message"),
)  # fmt: skip
_UNUSUAL: Final[tuple[tuple[str, Any, _Asks, str], ...]] = (
    ("audio", Any, _given, "answers in speech"),
    ("modalities", list[str], lambda value: set(value) != {"text"}, "answers that are no text"),
    ("web_search_options", Any, _given, "searching the web"),
    ("verbosity", str, lambda value: value != "medium", "answers of another length"),
    ("best_of", int, _above_one, "choosing the best of several"),
    ("echo", bool, _set, "the prompt in the answer"),
    ("suffix", str, _set, "text that goes before another"),
)
ELSEWHERE: Final = "openai_compatible"
_OWN_WAYS: Final[Mapping[str, Collection[str]]] = {
    "json_schema": ("llama_cpp", ELSEWHERE),
    "structured_outputs": ("vllm", ELSEWHERE),
    # vLLM's former names, which its newer versions pass over in silence.
    **{f"guided_{name}": (ELSEWHERE,) for name in ("json", "regex", "choice", "grammar")},
}
"""Engines' own fields for what `response_format` asks for, and who obeys them."""
_OLD: Final = {
    "functions": "tools",
    "function_call": "tool_choice",
    # llama.cpp's name for it: choices that nobody would count.
    "n_cmpl": "n",
}
_IGNORED: Final = (
    *("prediction", "store", "metadata", "service_tier", "user", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention"),
    # llama.cpp's: a report with the rendered prompt and all settings of the engine.
    *("verbose", "timings_per_token"),
)
"""About OpenAI's own service, or hints."""

OF_THE_WAY: Final = ("models", "provider", "route", "transforms", "helexa")
"""About where a request goes: a gateway has acted upon them. An engine may know one of these
names for something else."""
