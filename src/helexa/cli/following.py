"""Following pulls and loads to their end, by asking again and again.

Whoever stops to follow stops nothing: what goes on there goes on, and that is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Final, Generic, TypeVar

from helexa.cli.client import Unreachable
from helexa.cli.progress import Screen, Step

LOOK_EVERY_S: Final = 0.5
BEGINS_WITHIN_S: Final = 3.0
"""From a neuron's yes to the report that shows it."""
LOST_WITHIN_S: Final = 30.0
"""A cortex that is being restarted is back by then."""

Look = Callable[[], Sequence[Step]]
Clock = Callable[[], float]
Pause = Callable[[float], object]
T = TypeVar("T")


def until_over(
    look: Look,
    screen: Screen,
    *,
    idle: Collection[str],
    clock: Clock = time.monotonic,
    pause: Pause = time.sleep,
) -> Sequence[Step]:
    """Look until nothing goes on any more; the last look. `idle` are states that may be shown
    before it has begun to. Raises Unreachable when the cortex does not come back.
    """
    began_s = heard_s = clock()
    begun: set[str] = set()
    while True:
        now_s = clock()
        try:
            found = look()
        except Unreachable:
            if now_s - heard_s > LOST_WITHIN_S:
                raise
            pause(LOOK_EVERY_S)
            continue
        heard_s = now_s
        begun |= {step.name for step in found if not step.is_over}
        screen.show(found, now_s)
        late = now_s - began_s > BEGINS_WITHIN_S
        if all(
            step.is_over and (late or step.name in begun or step.state not in idle)
            for step in found
        ):
            return found
        pause(LOOK_EVERY_S)


class Asking(Generic[T]):
    """A question that is answered when all is done, asked beside the one who watches."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answer: T | None = None
        self._error: BaseException | None = None
        self.over = Event()
        # A daemon: whoever interrupts the watching does not wait for the answer.
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - handed over to the one who asked
            self._error = error
        self.over.set()

    def watched(self, look: Look, screen: Screen, *, clock: Clock = time.monotonic) -> T:
        """The answer, or what it raised; meanwhile what `look` finds is shown."""
        while not self.over.wait(LOOK_EVERY_S):
            with suppress(Exception):
                screen.show(look(), clock())
        return self.answer()

    def answer(self) -> T:
        """After it is `over`."""
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer
