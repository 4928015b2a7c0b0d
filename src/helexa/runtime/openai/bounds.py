"""Counts and ranges in schemas, patterns and grammars that no answer could keep.

llama.cpp makes rules for a repetition one by one, and where its least is above its most it
never ends: a few bytes of a client's would take all the memory that there is. Others answer
as if they were broken. So it is said here, by its place, before any engine reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

from helexa.protocol.errors import RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.openai import grammars

COUNT_MAX: Final = 2_000
"""What has to be there at least, which is also where llama.cpp stops."""
TIMES_MAX: Final = 10_000
"""How often a part of a pattern or a grammar may come again."""
MOST_MAX: Final = (1 << 31) - 1
_INTEGER_MAX: Final = (1 << 63) - 1
CONTAINERS_MAX: Final = 50_000
TIMES_TOTAL_MAX: Final = 50_000
GRAMMAR_CHARS_MAX: Final = 1 << 16

_COUNTS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
)
_PATTERNS: Final = frozenset({"pattern", "regex", "guided_regex"})
_GRAMMARS: Final = frozenset({"grammar", "guided_grammar"})
_FIELDS: Final = ("json_schema", "structured_outputs", "guided_json")
"""Of a body, besides the usual ones: engines' own ways to the same."""
_NUMBER_DIGITS_MAX: Final = 9
_TIMES: Final = re.compile(r"\{([\s\d,+-]*)\}")
_OF_GRAMMAR: Final = re.compile(
    # What is quoted, a class of characters, a token, a comment: braces in these repeat nothing.
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|<[^<>\s]*>|#[^\r\n]*'
    r"|\{((?:#[^\r\n]*|[^}#])*)\}",
    re.DOTALL,
)
_COMMENT: Final = re.compile(r"#[^\r\n]*")


def check(schema: Any, where: str) -> None:
    """Raises RequestRejected with the path of the first range that has nothing in it.

    Every object counts, wherever it stands: a `$ref` may lead to any of them.
    """
    for node, path in _objects(schema, where):
        for least, most in _COUNTS:
            _check_counts(node, path, least, most)
        _check_numbers(node, path)
        for name in node.keys() & _PATTERNS:
            if isinstance(node[name], str):
                check_pattern(node[name], f"{path}.{name}")
        for name in node.keys() & _GRAMMARS:
            if isinstance(node[name], str):
                check_grammar(node[name], f"{path}.{name}")


def check_fields(raw: bodies.Fields) -> None:
    """Of a whole body, all ways to a grammar or a schema that have no reader of their own."""
    for name in _FIELDS:
        if isinstance(found := bodies.value(raw, name, Any), dict):
            check(found, name)
    for name in _GRAMMARS:
        if isinstance(found := bodies.value(raw, name, Any), str):
            check_grammar(found, name)
    if isinstance(found := bodies.value(raw, "guided_regex", Any), str):
        check_pattern(found, "guided_regex")


def check_pattern(pattern: str, where: str) -> None:
    if len(pattern) > GRAMMAR_CHARS_MAX:
        raise RequestRejected(reason=f"`{where}` is too large.", field=where)
    _check_total([_check_times(found[1], where) for found in _TIMES.finditer(pattern)], where)
    grammars.check_pattern(pattern, where)


def check_grammar(grammar: str, where: str) -> None:
    if len(grammar) > GRAMMAR_CHARS_MAX:
        raise RequestRejected(reason=f"`{where}` is too large.", field=where)
    times = [
        _check_times(_COMMENT.sub("", found[1]), where)
        for found in _OF_GRAMMAR.finditer(grammar)
        if found[1] is not None
    ]
    _check_total(times, where)
    grammars.check(grammar, where)


def _check_total(times: Sequence[int], where: str) -> None:
    if sum(times) > TIMES_TOTAL_MAX:
        raise RequestRejected(reason=f"`{where}` repeats too much.", field=where)


def _check_times(inside: str, where: str) -> int:
    """The most of `{least,most}`, whatever else an engine would take for one."""
    parts = [part.strip() for part in inside.split(",")]
    numbers = [int(part[: _NUMBER_DIGITS_MAX + 1]) for part in parts if _is_number(part)]
    shown = f"{{{inside.strip()[:40]}}}"
    if any(n > TIMES_MAX or n < 0 for n in numbers) or (numbers and numbers[0] > COUNT_MAX):
        raise RequestRejected(
            reason=f"`{where}` repeats something {shown} times; at least {COUNT_MAX} and at most "
            f"{TIMES_MAX} are the largest taken here.",
            field=where,
        )
    if len(parts) == 2 and len(numbers) == 2 and numbers[0] > numbers[1]:
        raise RequestRejected(
            reason=f"`{where}` has {shown}, whose least is above its most.", field=where
        )
    return max(numbers, default=0)


def _is_number(part: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[0-9]+", part))


def _check_counts(node: Mapping[str, Any], path: str, least: str, most: str) -> None:
    for name in (least, most):
        value = node.get(name)
        if _is_numeric(value) and (not 0 <= value <= MOST_MAX or value != math.floor(value)):
            raise RequestRejected(
                reason=f"`{path}.{name}` is not a whole number, 0 to {MOST_MAX}.",
                field=f"{path}.{name}",
            )
    low, high = node.get(least), node.get(most)
    if _is_numeric(low) and low > COUNT_MAX:
        raise RequestRejected(
            reason=f"`{path}.{least}` is more than the {COUNT_MAX} taken here.",
            field=f"{path}.{least}",
        )
    if _is_numeric(low) and _is_numeric(high) and low > high:
        raise _nothing(path, least, most)


def _check_numbers(node: Mapping[str, Any], path: str) -> None:
    lows = [name for name in ("minimum", "exclusiveMinimum") if _is_numeric(node.get(name))]
    highs = [name for name in ("maximum", "exclusiveMaximum") if _is_numeric(node.get(name))]
    for name in (*lows, *highs):
        if node.get("type") == "integer" and abs(node[name]) > _INTEGER_MAX:
            raise RequestRejected(
                reason=f"`{path}.{name}` is beyond what 64 bits hold.", field=f"{path}.{name}"
            )
    for low in lows:
        for high in highs:
            least, most = node[low], node[high]
            if node.get("type") == "integer":
                least = math.floor(least) + 1 if low.startswith("ex") else math.ceil(least)
                most = math.ceil(most) - 1 if high.startswith("ex") else math.floor(most)
            is_open = low.startswith("ex") or high.startswith("ex")
            if least > most or (is_open and node[low] >= node[high]):
                raise _nothing(path, low, high)


def _nothing(path: str, least: str, most: str) -> RequestRejected:
    return RequestRejected(
        reason=f"`{path}.{least}` and `{most}` leave nothing between them.",
        field=f"{path}.{least}",
    )


def _is_numeric(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _objects(value: Any, where: str) -> Iterator[tuple[dict[str, Any], str]]:
    pending: list[tuple[Any, str]] = [(value, where)]
    seen = 0
    while pending:
        found, path = pending.pop()
        seen += 1
        if seen > CONTAINERS_MAX:
            raise RequestRejected(reason=f"`{where}` is too large.", field=where)
        if isinstance(found, dict):
            yield found, path
            inner = [(each, f"{path}.{name}") for name, each in found.items()]
        else:
            inner = [(each, f"{path}[{at}]") for at, each in enumerate(found)]
        pending.extend(one for one in reversed(inner) if isinstance(one[0], dict | list))
