"""`NAME=VALUE` for a runtime, read and checked against what its adapter takes.

Whoever may configure a model may not run any program or read any file by it:
only what an adapter names is taken, with a type and a range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from helexa.runtime.contract import Argument, ArgumentValue, RuntimeAdapter, TunableAdapter

ARGUMENTS_MAX: Final = 64
_SWITCH: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


class ArgumentRefused(Exception):
    """Says which one, why, and what would be taken."""


def taken_by(adapter: RuntimeAdapter) -> Sequence[Argument]:
    return adapter.arguments if isinstance(adapter, TunableAdapter) else ()


def read(adapter: RuntimeAdapter, texts: Sequence[str]) -> Mapping[str, ArgumentValue]:
    """Raises ArgumentRefused."""
    known = {one.name: one for one in taken_by(adapter)}
    if len(texts) > ARGUMENTS_MAX:
        raise ArgumentRefused(f"more than {ARGUMENTS_MAX} arguments")
    found: dict[str, ArgumentValue] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise ArgumentRefused(f"{text[:80]!r} is not NAME=VALUE")
        if name not in known:
            names = ", ".join(known) or "none"
            raise ArgumentRefused(f"{adapter.name} takes no {name[:80]!r}; it takes {names}")
        if name in found:
            raise ArgumentRefused(f"{name} is given twice")
        found[name] = value_of(known[name], value.strip())
    return found


def value_of(argument: Argument, text: str) -> ArgumentValue:
    """Raises ArgumentRefused naming what is accepted."""
    refused = ArgumentRefused(f"{argument.name} is {accepted(argument)}, not {text[:80]!r}")
    if argument.kind is bool:
        if text.lower() not in _SWITCH:
            raise refused
        return _SWITCH[text.lower()]
    if argument.kind is str:
        if text not in argument.choices:
            raise refused
        return text
    try:
        number = int(text) if argument.kind is int else float(text)
    except ValueError:
        raise refused from None
    # Comparisons with what is not a number are false, so it is refused as well.
    if not (argument.least is None or number >= argument.least):
        raise refused
    if not (argument.most is None or number <= argument.most):
        raise refused
    return number


def accepted(argument: Argument) -> str:
    """In words: `a whole number from 32 to 8192`."""
    if argument.kind is bool:
        return "true or false"
    if argument.kind is str:
        return f"one of {', '.join(argument.choices)}"
    kind = "a whole number" if argument.kind is int else "a number"
    return f"{kind} from {argument.least:g} to {argument.most:g}"
