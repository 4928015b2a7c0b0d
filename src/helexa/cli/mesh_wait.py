"""Waiting for what a mesh brings by itself: a cortex that starts, peers, a model on offer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from helexa.cli import mesh_tables
from helexa.cli.verb import Failed

LOOK_EVERY_S: Final = 0.25
WATCH_EVERY_S: Final = 1.0
WAIT_S: Final = 30.0
"""Members that are found at all are found within seconds."""

T = TypeVar("T")
Clock = Callable[[], float]
Pause = Callable[[float], None]
Peers = Callable[[], list[dict[str, Any]]]


def until(
    look: Callable[[], T],
    enough: Callable[[T], bool],
    *,
    within_s: float,
    missing: str,
    clock: Clock = time.monotonic,
    pause: Pause = time.sleep,
) -> T:
    """What `look` finds as soon as it is `enough`; a look that fails is tried again.

    Raises Failed with the last look's own words, or with `missing` where it only found too little.
    """
    end_s = clock() + within_s
    while True:
        problem = Failed(f"{missing} after {within_s:g} s")
        try:
            if enough(found := look()):
                return found
        except Failed as error:
            problem = error
        if clock() >= end_s:
            raise problem
        pause(LOOK_EVERY_S)


def is_there(
    peers: Sequence[dict[str, Any]], *, at_least: int, offering: str = "", having: str = ""
) -> bool:
    """Whether so many peers live, and some of them offer the one model and have the other."""
    alive = [one for one in peers if one.get("state") == "alive"]
    offered = {model for one in alive for model in one.get("offers", ())}
    withheld = {model for one in alive for model in one.get("withheld", ())}
    offers = not offering or offering in offered
    has = not having or having in offered | withheld
    return len(alive) >= at_least and offers and has


def watched(look: Peers, pause: Pause = time.sleep) -> Iterator[str]:
    """A line for each change among the peers, from now on and without end."""
    before = look()
    while True:
        pause(WATCH_EVERY_S)
        after = look()
        yield from mesh_tables.changes(before, after)
        before = after
