"""Grammars in llama.cpp's notation, and patterns, that its engine would read without end.

It follows all that may come next at once, and by calling itself: what leads back to itself
before a letter is written, is nested deeply or comes to very many ways ends the whole process,
with every other answer that it was writing. What cannot be read here is left for it to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from helexa.protocol.errors import RequestRejected

WAYS_MAX: Final = 500
"""Alternatives at one place of an answer. Some thousands take seconds for each token."""
DEPTH_MAX: Final = 200
_ROUNDS_MAX: Final = 100
_SIGNS: Final = re.compile(
    r'(?P<text>"(?:\\.|[^"\\])*")|(?P<class>\[(?:\\.|[^\]\\])*\]|\.|!?<[^<>\s]*>)|'
    r"(?P<begun>[A-Za-z0-9_-]+)\s*::=|(?P<name>[A-Za-z0-9_-]+)|(?P<open>\()|(?P<shut>\))|"
    r"(?P<or>\|)|(?P<many>[*+?]|\{[^}]*\})|(?P<space>\s+|#[^\r\n]*)",
    re.DOTALL,
)
_PATTERN_SIGNS: Final = re.compile(
    r"(?P<space>[\^$])|(?P<class>\\.|\[(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?[:=!])?)|(?P<shut>\))|"
    r"(?P<or>\|)|(?P<many>[*+?]|\{[\d\s,]*\})|(?P<text>.)",
    re.DOTALL,
)


@dataclass(slots=True)
class _Part:
    name: str = ""
    """Of a rule; empty for what is a letter of the answer."""
    may_lack: bool = False
    times: int = 1
    """How often it comes at most where it writes nothing."""


@dataclass(slots=True)
class _Rule:
    sequences: list[list[_Part]] = field(default_factory=lambda: [[]])


def check(grammar: str, where: str) -> None:
    """Raises RequestRejected."""
    if "::=" in grammar and not grammar.lstrip().startswith("%llguidance"):
        _judge(_read(grammar, where, _SIGNS, {}, []), where)


def check_pattern(pattern: str, where: str) -> None:
    """Raises RequestRejected."""
    _judge(_read(pattern, where, _PATTERN_SIGNS, {"pattern": _Rule()}, ["pattern"]), where)


def _judge(rules: dict[str, _Rule] | None, where: str) -> None:
    if rules is None:
        return
    lacking = _lacking(rules, where)
    ways: dict[str, int] = {}
    for name in rules:
        if _count(rules, name, lacking, ways, where) > WAYS_MAX:
            raise RequestRejected(
                reason=f"`{where}` comes to more than {WAYS_MAX} alternatives at one place.",
                field=where,
            )


def _read(
    written: str, where: str, signs: re.Pattern[str], rules: dict[str, _Rule], open_: list[str]
) -> dict[str, _Rule] | None:
    """Its rules, a group being one of its own; None where it is not in this notation."""
    at = 0
    while at < len(written):
        sign = signs.match(written, at)
        if sign is None:
            return None
        at = sign.end()
        kind, said = sign.lastgroup, sign[0]
        if kind == "space":
            continue
        if kind == "begun":
            rules[sign["begun"]] = _Rule()
            open_ = [sign["begun"]]
            continue
        if not open_:
            return None
        if not _take(kind, said, rules, open_):
            return None
        if len(open_) > DEPTH_MAX:
            raise RequestRejected(reason=f"`{where}` is nested too deeply.", field=where)
    return rules


def _take(kind: str | None, said: str, rules: dict[str, _Rule], open_: list[str]) -> bool:
    """Whether the sign may stand here."""
    sequence = rules[open_[-1]].sequences[-1]
    match kind:
        case "text":
            sequence.append(_Part(may_lack=said == '""'))
        case "class":
            sequence.append(_Part())
        case "name":
            sequence.append(_Part(name=said))
        case "open":
            inner = f"({len(rules)}"
            rules[inner] = _Rule()
            sequence.append(_Part(name=inner))
            open_.append(inner)
        case "shut":
            open_.pop()
        case "or":
            rules[open_[-1]].sequences.append([])
        case "many" if sequence:
            _repeat(sequence[-1], said)
        case _:
            return False
    return bool(open_)


def _repeat(part: _Part, said: str) -> None:
    numbers = [int(each[:6]) for each in re.findall(r"\d+", said)]
    part.may_lack |= said in "*?" or (bool(numbers) and numbers[0] == 0)
    part.times *= max([1, *numbers])


def _lacking(rules: dict[str, _Rule], where: str) -> set[str]:
    """Those that may write nothing."""
    found: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        more = {
            name
            for name, rule in rules.items()
            if name not in found
            and any(all(p.may_lack or p.name in found for p in each) for each in rule.sequences)
        }
        if not more:
            return found
        found |= more
    raise RequestRejected(reason=f"`{where}` is nested too deeply.", field=where)


def _leading(rule: _Rule, lacking: set[str]) -> Iterator[_Part]:
    """Parts that may write its first letter."""
    for sequence in rule.sequences:
        for part in sequence:
            yield part
            if not (part.may_lack or part.name in lacking):
                break


def _count(
    rules: dict[str, _Rule], start: str, lacking: set[str], ways: dict[str, int], where: str
) -> int:
    pending = [(start, False)]
    while pending:
        name, is_left = pending.pop()
        rule = rules.get(name)
        if is_left and rule is not None:
            total = sum(
                ways.get(part.name, 1) * (part.times if part.name in lacking else 1)
                for part in _leading(rule, lacking)
            )
            ways[name] = min(max(1, total), WAYS_MAX + 1)
        elif ways.get(name) == 0:
            raise RequestRejected(
                reason=f"`{where}` leads back to itself before anything is written.", field=where
            )
        elif name not in ways and rule is not None:
            ways[name] = 0
            pending.append((name, True))
            inner = {part.name for part in _leading(rule, lacking) if part.name}
            pending.extend((one, False) for one in inner if not ways.get(one))
    return ways.get(start, 1)
