"""Where the references of a JSON schema lead, and how much they come to.

A schema that is itself, or itself again beside something else, is an endless question; and one of
a few hundred bytes can come to a thousand million alternatives by references alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from helexa.protocol.errors import RequestRejected

WAYS_MAX: Final = 10_000
"""Alternatives at one place of an answer."""
_BESIDE: Final = ("anyOf", "oneOf", "allOf")
_ENTERED: Final = 0

_MISSING: Final = object()


def check(root: Mapping[str, Any], nodes: list[tuple[Mapping[str, Any], str]], where: str) -> None:
    """`nodes` are its schemas with their paths. Raises RequestRejected naming the reference."""
    if not any("$ref" in node for node, _ in nodes):
        return
    ways: dict[int, int] = {}
    for node, path in nodes:
        if "$ref" in node and not isinstance(target(root, node["$ref"], path), dict | bool):
            raise RequestRejected(
                reason=f"`{path}.$ref` leads to what is no schema.", field=f"{path}.$ref"
            )
    for node, path in nodes:
        if id(node) not in ways and _count(root, node, path, ways) > WAYS_MAX:
            raise RequestRejected(
                reason=f"`{where}` comes to more than {WAYS_MAX} alternatives at one place.",
                field=path,
            )


def _count(
    root: Mapping[str, Any], start: Mapping[str, Any], path: str, ways: dict[int, int]
) -> int:
    """Of the alternatives that it comes to. Not by recursion: references make it any depth."""
    pending: list[tuple[Mapping[str, Any], bool]] = [(start, False)]
    while pending:
        node, is_left = pending.pop()
        known = ways.get(id(node))
        beside = _beside(root, node, path)
        if is_left:
            ways[id(node)] = min(max(1, sum(ways[id(one)] for one in beside)), WAYS_MAX + 1)
        elif known == _ENTERED:
            raise RequestRejected(
                reason=f"`{path}` leads back to itself, so that no answer would ever be one.",
                field=path,
            )
        elif known is None:
            ways[id(node)] = _ENTERED
            pending.append((node, True))
            pending.extend((one, False) for one in _new(beside, ways))
    return ways[id(start)]


def _new(beside: list[Mapping[str, Any]], ways: dict[int, int]) -> list[Mapping[str, Any]]:
    """Each once; one that was entered and not left is a ring, which its turn will say."""
    return list({id(one): one for one in beside if not ways.get(id(one))}.values())


def _beside(root: Mapping[str, Any], node: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    """What has to be followed before a letter of the answer is written."""
    found: list[Mapping[str, Any]] = [
        each for word in _BESIDE for each in node.get(word, ()) if isinstance(each, dict)
    ]
    if isinstance(node.get("$ref"), str):
        led = target(root, node["$ref"], path)
        if isinstance(led, dict):
            found.append(led)
    return found


def target(root: Mapping[str, Any], reference: str, path: str) -> Any:
    """What the `$ref` of the schema at `path` leads to. Raises RequestRejected."""
    path = f"{path}.$ref"
    if not reference.startswith("#"):
        raise RequestRejected(
            reason=f"`{path}` leads out of the schema; only references into it are followed.",
            field=path,
        )
    found: Any = root
    for name in filter(None, reference[1:].split("/")):
        found = _step(found, name)
        if found is _MISSING:
            raise RequestRejected(
                reason=f"`{path}` leads to nothing: there is no {reference[:100]!r}.", field=path
            )
    return found


def _step(found: Any, name: str) -> Any:
    plain = name.replace("~1", "/").replace("~0", "~")
    if isinstance(found, dict):
        return found.get(name, found.get(plain, _MISSING))
    if isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
        return found[int(name[:9])]
    return _MISSING
