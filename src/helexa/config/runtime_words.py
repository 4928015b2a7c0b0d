"""Kinds of values that name a runtime, or set something of one.

The runtimes are asked, so a new one brings its words along; they are imported
when the first such value is read, because most commands never see one.
"""

from __future__ import annotations

import difflib
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

    name, equals, _ = text.partition("=")
    if not equals:
        raise ValueError(f"{text[:80]!r} is not NAME=VALUE")
    known = {
        runtime: {one.name for one in arguments.taken_by(adapters.load(runtime))}
        for runtime in adapters.names()
    }
    takers = [runtime for runtime, names in known.items() if name.strip() in names]
    if not takers:
        every = {one for names in known.values() for one in names}
        near = difflib.get_close_matches(name.strip(), every, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no runtime takes {name.strip()[:80]!r}{hint}")
    refusals: dict[str, list[str]] = {}
    for runtime in takers:
        try:
            arguments.read(adapters.load(runtime), (text,))
        except arguments.ArgumentRefused as error:
            refusals.setdefault(str(error), []).append(runtime)
        else:
            return text
    said = (f"{', '.join(runtimes)}: {why}" for why, runtimes in refusals.items())
    raise ValueError("; ".join(said))


RUNTIME: Final = Word("the name of a runtime, such as llama_cpp", _runtime)
ARGUMENT: Final = Word("NAME=VALUE", _argument)
OFFER: Final = Word("a kind of work or an ability, such as chat, embedding, vision, tools", _offer)
