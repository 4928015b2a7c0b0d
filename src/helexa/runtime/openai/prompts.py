"""Prompts and inputs that are texts or tokens, judged by their places before any engine reads them.

An engine makes an answer of nothing, takes a list of words and numbers for one text, or cuts
an id to the bits that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai.requests import Texts

_ID_MOST: Final = 1 << 31
"""Where the vocabulary is not known."""


def check(given: Texts, name: str, vocabulary: int) -> int:
    """How many prompts the field of that `name` holds. Raises BodyMalformed with the place.

    `vocabulary` is the number of the model's tokens, 0 where nobody knows it.
    """
    if not given:
        raise _empty(name)
    if isinstance(given, str):
        return 1
    kind = type(given[0])
    for at, one in enumerate(given):
        if type(one) is not kind:
            raise BodyMalformed(
                reason=f"`{name}` is a text, texts, token ids, or lists of token ids; not a "
                f"mixture, and `{name}[{at}]` is of another kind than those before it.",
                field=f"{name}[{at}]",
            )
    if kind is int:
        check_ids(given, name, vocabulary)
        return 1
    for at, one in enumerate(given):
        if not one:
            raise _empty(f"{name}[{at}]")
        if isinstance(one, list):
            check_ids(one, f"{name}[{at}]", vocabulary)
    return len(given)


def check_ids(ids: Sequence[Any], where: str, vocabulary: int) -> None:
    """Raises BodyMalformed with the place of the first that is no token."""
    most = vocabulary or _ID_MOST
    if not ids or (min(ids) >= 0 and max(ids) < most):
        return
    at = next(at for at, one in enumerate(ids) if not 0 <= one < most)
    field = f"{where}[{at}]"
    has = f", which has {vocabulary}" if vocabulary else ""
    raise BodyMalformed(reason=f"`{field}` is no token of this model{has}.", field=field)


def _empty(field: str) -> BodyMalformed:
    return BodyMalformed(reason=f"`{field}` is empty.", field=field)
