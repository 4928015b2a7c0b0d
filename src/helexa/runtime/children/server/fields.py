"""What a body may say, field by field: its type, its range, and what asks for nothing.

A field that is not in these tables is refused by its name, and so is one that the
engine does not act upon, unless its value asks for nothing: an answer that left it
out in silence would be taken for what the client wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .engine import CHAT, COMPLETIONS, EMBEDDINGS, RERANK, Refused

STOPS_MAX = 16
STOP_CHARS_MAX = 256
CHOICES_MAX = 128
TEMPERATURE_LEAST = 1e-5
PENALTY_LEAST = 1e-3
PENALTY_MOST = 1e3
DEPTH_MAX = 100
"""How deep lists and objects may lie in one another."""


_INT_MAX = (1 << 53) - 1
"""Above it, other readers of JSON change the number."""


@dataclass(frozen=True)
class Field:
    wants: str
    """What a client is told that it has to be."""
    is_sound: Callable[[Any], bool]
    asks_nothing: Callable[[Any], bool]
    """Of a sound value: whether leaving it out would be the same."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _empty(value: Any) -> bool:
    return not value


def _never(value: Any) -> bool:
    del value
    return False


def whole(least: int, most: int | None = None, nothing: Callable[[Any], bool] = _never) -> Field:
    def sound(value: Any) -> bool:
        return _is_int(value) and least <= value <= (_INT_MAX if most is None else most)

    return Field(_range("a whole number", least, most), sound, nothing)


def number(
    least: float, most: float | None = None, nothing: Callable[[Any], bool] = _never
) -> Field:
    def sound(value: Any) -> bool:
        return _is_number(value) and least <= value and (most is None or value <= most)

    return Field(_range("a number", least, most), sound, nothing)


def _range(kind: str, least: float, most: float | None) -> str:
    return f"{kind} of {least:g} or more" if most is None else f"{kind}, {least:g} to {most:g}"


def _temperature(value: Any) -> bool:
    # What scores are divided by must leave them numbers.
    return _is_number(value) and (value == 0 or TEMPERATURE_LEAST <= value <= 2)


def _penalty(value: Any) -> bool:
    return _is_number(value) and PENALTY_LEAST <= value <= PENALTY_MOST


def _equals(nothing: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value == nothing)


def _stop(value: Any) -> bool:
    listed = [value] if isinstance(value, str) else value
    return (
        isinstance(listed, list)
        and len(listed) <= STOPS_MAX
        and all(_is_text(one) and 0 < len(one) <= STOP_CHARS_MAX for one in listed)
    )


def _bias(value: Any) -> bool:
    return _is_object(value) and all(
        name.isdecimal() and _is_number(one) and -100 <= one <= 100 for name, one in value.items()
    )


def _choice(value: Any) -> bool:
    return value in ("none", "auto", "required") if isinstance(value, str) else _named(value)


def _named(value: Any) -> bool:
    """A function, as tools and choices of one name it."""
    if not isinstance(value, dict) or value.get("type") != "function":
        return False
    inner = value.get("function")
    return isinstance(inner, dict) and _is_text(inner.get("name"))


def _tools(value: Any) -> bool:
    return _objects(value) and all(map(_named, value))


def _format(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("type") == "json_schema":
        inner = value.get("json_schema")
        return isinstance(inner, dict) and _is_object(inner.get("schema"))
    return value.get("type") in ("text", "json_object")


def _options(value: Any) -> bool:
    return (
        _is_object(value)
        and set(value) <= {"include_usage", "include_obfuscation"}
        and all(_is_bool(one) for one in value.values())
        and not value.get("include_obfuscation")
    )


def _messages(value: Any) -> bool:
    return _objects(value) and bool(value) and all(_message(one) for one in value)


def _message(value: Mapping[str, Any]) -> bool:
    content = value.get("content")
    return _is_text(value.get("role")) and (
        content is None or _is_text(content) or (_objects(content) and all(map(_part, content)))
    )


def _part(value: Mapping[str, Any]) -> bool:
    return _is_text(value.get("type")) and ("text" not in value or _is_text(value["text"]))


def _tokens(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(_is_int(one) and one >= 0 for one in value)
    )


def _prompt(value: Any) -> bool:
    return _is_text(value) or _tokens(value) or _texts(value)


def _texts(value: Any) -> bool:
    """Texts or lists of tokens, one or more."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(_is_text(one) or _tokens(one) for one in value)
    )


def _documents(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(_is_text(one) or (_is_object(one) and _is_text(one.get("text"))) for one in value)
    )


_ANYTHING = Field("anything", lambda _: True, lambda _: True)
_COMMON: Mapping[str, Field] = {
    # One child serves one model; which was meant, under whatever name, was decided before.
    "model": Field("a text", _is_text, _never),
    "user": _ANYTHING,
}
_TEXTUAL: Mapping[str, Field] = {
    **_COMMON,
    "stream": Field("true or false", _is_bool, _never),
    "stream_options": Field("an object with `include_usage`", _options, _never),
    "max_tokens": whole(1),
    "stop": Field(f"a text, or up to {STOPS_MAX} of them", _stop, _never),
    "metadata": _ANYTHING,
    "safety_identifier": _ANYTHING,
    "prompt_cache_key": _ANYTHING,
}

ALWAYS: Mapping[str, Mapping[str, Field]] = {
    CHAT: {
        **_TEXTUAL,
        "messages": Field("messages, each with a `role` and a `content`", _messages, _never),
        "max_completion_tokens": whole(1),
    },
    COMPLETIONS: {
        **_TEXTUAL,
        "prompt": Field("a text, or a list of texts or tokens", _prompt, _never),
    },
    EMBEDDINGS: {
        **_COMMON,
        "input": Field("a text, or a list of texts or tokens", _prompt, _never),
        "encoding_format": Field(
            "`float` or `base64`", lambda it: it in ("float", "base64"), _never
        ),
    },
    RERANK: {
        **_COMMON,
        "query": Field("a text", _is_text, _never),
        "documents": Field("a list of texts", _documents, _never),
        "top_n": whole(1),
        "return_documents": Field("true or false", _is_bool, _never),
    },
}
"""What the server sees to itself, whatever the engine."""

_GENERATION: Mapping[str, Field] = {
    "temperature": Field("a number, 0 to 2, and not nearly 0", _temperature, _never),
    "top_p": number(0, 1, _equals(1)),
    "top_k": whole(-1, nothing=lambda value: value <= 0),
    "min_p": number(0, 1, _equals(0)),
    "seed": Field("a whole number", _is_int, _never),
    "n": whole(1, CHOICES_MAX, _equals(1)),
    "frequency_penalty": number(-2, 2, _equals(0)),
    "presence_penalty": number(-2, 2, _equals(0)),
    "repetition_penalty": Field("a number above 0", _penalty, _equals(1)),
    "repeat_penalty": Field("a number above 0", _penalty, _equals(1)),
    "logit_bias": Field("an object of token numbers to -100..100", _bias, _empty),
    "grammar": Field("a text", _is_text, _empty),
    "ignore_eos": Field("true or false", _is_bool, _empty),
    "response_format": Field(
        "`text`, `json_object`, or `json_schema` with a schema",
        _format,
        lambda value: value["type"] == "text",
    ),
}
OPTIONAL: Mapping[str, Mapping[str, Field]] = {
    CHAT: {
        **_GENERATION,
        "logprobs": Field("true or false", _is_bool, _empty),
        "top_logprobs": whole(0, 20, _equals(0)),
        "tools": Field("a list of functions", _tools, _empty),
        "tool_choice": Field(
            "`none`, `auto`, `required` or names a function",
            _choice,
            lambda value: value in ("none", "auto"),
        ),
        "parallel_tool_calls": Field("true or false", _is_bool, _equals(True)),
        "reasoning_effort": Field("a text", _is_text, _never),
        "chat_template_kwargs": Field("an object", _is_object, _empty),
        "add_generation_prompt": Field("true or false", _is_bool, _equals(True)),
        "continue_final_message": Field("true or false", _is_bool, _equals(False)),
        "store": Field("true or false", _is_bool, _equals(False)),
    },
    COMPLETIONS: {
        **_GENERATION,
        "logprobs": whole(0, 20, _equals(0)),
        "echo": Field("true or false", _is_bool, _empty),
        "suffix": Field("a text", _is_text, _empty),
        "best_of": whole(1, CHOICES_MAX, _equals(1)),
    },
    EMBEDDINGS: {"dimensions": whole(1)},
    RERANK: {},
}
"""What an engine may honour. Besides these names it may honour `prompt_ids` and `input_ids`."""


def check(kind: str, body: Mapping[str, Any], honoured: Collection[str]) -> dict[str, Any]:
    """The members that say something. Raises Refused naming the first that is wrong."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        known = ALWAYS[kind].get(name) or OPTIONAL[kind].get(name)
        if known is None:
            raise Refused(f"`{name}` is not known here.", param=name, code="unknown_field")
        if value is None:
            continue
        if not known.is_sound(value):
            raise Refused(f"`{name}` is {known.wants}.", param=name, code="invalid_body")
        if name in ALWAYS[kind] or name in honoured:
            kept[name] = value
        elif not known.asks_nothing(value):
            raise unsupported(name)
    return kept


def unsupported(name: str) -> Refused:
    return Refused(
        f"`{name}` is not supported by the engine that serves this model.",
        param=name,
        code="unsupported_capability",
    )


def is_shallow(value: Any) -> bool:
    """Whether nothing lies deeper in it than engines read without harm."""
    level: Sequence[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return True
    return False


def _inside(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
