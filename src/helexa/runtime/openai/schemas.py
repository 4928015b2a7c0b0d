"""JSON schemas that clients send: what is none is refused by its place in the body.

Engines turn a schema into a grammar, and leave out in silence what a grammar of theirs
cannot say. Where the client insists (`strict`), such a word is refused; else it stays what
it always was, advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from helexa.protocol.errors import RequestRejected
from helexa.runtime.openai import bounds, references

Json: TypeAlias = dict[str, Any]
Enforced: TypeAlias = Callable[[Json, str], bool]
"""Whether a word of a schema is, where it stands."""

DEPTH_MAX: Final = 64
NODES_MAX: Final = 20_000
PROPERTIES_MAX: Final = 1_000
"""Of one object. llama.cpp looks at all that may come next, for every token: 1000 take seconds."""
_PLACES_MAX: Final = 100

_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_OF_MANY: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_OF_LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_OF_ONE: Final = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
_ADVICE: Final = frozenset({
    "title", "description", "default", "examples", "example", "deprecated", "readOnly",
    "writeOnly", "$schema", "$id", "$comment", "$anchor", "strict",
})  # fmt: skip


def check(schema: Any, where: str) -> None:
    """Raises RequestRejected with the path of the first thing that is no schema."""
    nodes: dict[int, tuple[Json, str]] = {}
    pending = [(schema, where)]
    for _ in range(_PLACES_MAX):
        for node, path in _nodes(*pending.pop()):
            if id(node) not in nodes:
                nodes[id(node)] = (node, path)
                _check_node(node, path)
        pending = pending or _led_to(schema, nodes)
        if not pending:
            break
    else:
        raise RequestRejected(reason=f"`{where}` has references to too many places.", field=where)
    bounds.check(schema, where)
    references.check(schema, list(nodes.values()), where)


def _check_node(node: Json, path: str) -> None:
    _check_types(node, path)
    for name, kind in (("required", list), ("enum", list), ("$ref", str), ("pattern", str)):
        if name in node and not isinstance(node[name], kind):
            raise _refused(f"{path}.{name}", "a list" if kind is list else "a text")
    if node.get("enum") == []:
        raise _refused(f"{path}.enum", "a list with something in it")
    if len(node.get("properties", ())) > PROPERTIES_MAX:
        raise RequestRejected(
            reason=f"`{path}.properties` has more than the {PROPERTIES_MAX} taken here.",
            field=f"{path}.properties",
        )


def _led_to(schema: Json, nodes: Mapping[int, tuple[Json, str]]) -> list[tuple[Any, str]]:
    """Where references lead besides the usual places: at most one, as it may hold the next."""
    for node, path in nodes.values():
        if "$ref" in node:
            found = references.target(schema, node["$ref"], path)
            if isinstance(found, dict) and id(found) not in nodes:
                return [(found, f"{path}.$ref")]
    return []


def check_strict(schema: Json, where: str, enforced: Enforced, *, runtime: str) -> None:
    """Raises RequestRejected naming the first word that the engine would leave out."""
    for node, path in _nodes(schema, where):
        for word in node:
            if word not in _ADVICE and not enforced(node, word):
                raise RequestRejected(
                    reason=f"`{path}.{word}` cannot be enforced by the runtime {runtime}; leave "
                    "it out, or ask without `strict`.",
                    field=f"{path}.{word}",
                )
        names = node.get("properties", {})
        for name in node.get("required", ()):
            if name not in names and "$ref" not in node:
                raise RequestRejected(
                    reason=f"`{path}.required` names {str(name)[:100]!r}, which is not among its "
                    "properties.",
                    field=f"{path}.required",
                )


def moved(schema: Json, place: str) -> Json:
    """The same as a part of another document, at the JSON pointer `place`."""
    found: Json = _moved(schema, place)
    return found


def _moved(value: Any, place: str) -> Any:
    if isinstance(value, list):
        return [_moved(each, place) for each in value]
    if not isinstance(value, dict):
        return value
    copied = {name: _moved(each, place) for name, each in value.items()}
    target = value.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        copied["$ref"] = f"{place}{target[1:]}"
    return copied


def _nodes(schema: Any, where: str) -> Iterator[tuple[Json, str]]:
    """Every schema in it with its path, outermost first. Raises RequestRejected."""
    pending: list[tuple[Any, str, int]] = [(schema, where, 0)]
    seen = 0
    while pending:
        node, path, depth = pending.pop()
        if isinstance(node, bool) and depth:
            continue  # `true` is anything and `false` nothing.
        if not isinstance(node, dict):
            raise _refused(path, "a JSON schema, which is an object")
        seen += 1
        if depth > DEPTH_MAX or seen > NODES_MAX:
            raise RequestRejected(reason=f"`{where}` is too large.", field=where)
        yield node, path
        pending.extend(
            (child, f"{path}.{at}", depth + 1) for at, child in reversed(_children(node, path))
        )


def _children(node: Json, path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for word in _OF_MANY:
        if word in node:
            if not isinstance(node[word], dict):
                raise _refused(f"{path}.{word}", "an object")
            found.extend((f"{word}.{name}", child) for name, child in node[word].items())
    for word in _OF_LIST:
        if word in node:
            if not isinstance(node[word], list) or not node[word]:
                raise _refused(f"{path}.{word}", "a list of schemas")
            found.extend((f"{word}[{at}]", child) for at, child in enumerate(node[word]))
    for word in _OF_ONE:
        child = node.get(word)
        if word == "items" and isinstance(child, list):
            found.extend((f"items[{at}]", one) for at, one in enumerate(child))
        elif word in node:
            found.append((word, child))
    return found


def _check_types(node: Json, path: str) -> None:
    if "type" not in node:
        return
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if not kinds or any(kind not in _TYPES for kind in kinds):
        raise _refused(f"{path}.type", f"one of {', '.join(_TYPES)}, or a list of them")


def _refused(path: str, wanted: str) -> RequestRejected:
    return RequestRejected(reason=f"`{path}` is not {wanted}.", field=path)
