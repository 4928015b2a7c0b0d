"""Every kind of place weights come from: a file each, called by the word before the colon."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from helexa.neuron.models.supply.failure import SourceFailed
from helexa.neuron.models.supply.source import Means, Source


@cache
def words() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def open_source(source: str, means: Means) -> Source:
    """Raises SourceFailed where there is no such kind."""
    word = source.partition(":")[0]
    # On loopback alone, which the source itself sees to.
    word = "https" if word == "http" else word
    if ":" not in source or word not in words():
        known = ", ".join(f"{one}:" for one in words())
        raise SourceFailed(f"{source[:80]!r} names no source; there are {known}")
    made: Source = import_module(f"{__name__}.{word}").open_source(means)
    return made
