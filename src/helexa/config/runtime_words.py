"""Kinds of values that name a runtime, or set something of one.

The runtimes are asked, so a new one brings its words along; they are imported
when the first such value is read, because most commands never see one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from helexa.config.names import Word


def known() -> Sequence[str]:
    from helexa.runtime import adapters  # see above

    return adapters.names()


def _offer(text: str) -> str:
    from helexa.runtime import offers  # see above

    if text not in offers.WORDS:
        raise ValueError(f"{text[:80]!r} is no kind of work and no ability")
    return text


def _runtime(text: str) -> str:
    from helexa.runtime import adapters  # see above

    if text and text not in adapters.names():
        raise ValueError(
            f"no runtime is named {text[:80]!r}; known are {', '.join(adapters.names())}"
        )
    return text


def _argument(text: str) -> str:
    """Which runtime serves a model is known once its file is: one of them has to take it."""
    from helexa.runtime import adapters, arguments  # see above

    refusals = []
    for name in adapters.names():
        try:
            arguments.read(adapters.load(name), (text,))
        except arguments.ArgumentRefused as error:
            refusals.append(str(error))
        else:
            return text
    raise ValueError("; ".join(refusals))


RUNTIME: Final = Word("the name of a runtime, such as llama_cpp", _runtime)
ARGUMENT: Final = Word("NAME=VALUE", _argument)
OFFER: Final = Word("a kind of work or an ability, such as chat, embedding, vision, tools", _offer)
