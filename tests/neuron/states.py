"""The states of one model, as whoever observes the roster sees them."""

from __future__ import annotations

import anyio
from tests.neuron.bench import PATIENCE_S

from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.work import ModelState


class States:
    """The states that observers saw, each once."""

    def __init__(self, roster: Roster, model: str) -> None:
        self.seen: list[ModelState] = []
        self.reasons: list[tuple[str, str]] = []
        """In one word and in a sentence."""
        self._roster = roster
        self._model = model
        self._changed = anyio.Event()
        roster.observe(self._look)

    def _look(self) -> None:
        said = self._roster.capability(self._model)
        state = said.state
        self.reasons.append((said.reason_code, said.reason))
        if not self.seen or self.seen[-1] is not state:
            self.seen.append(state)
        self._changed.set()

    async def until(self, state: ModelState) -> None:
        with anyio.fail_after(PATIENCE_S):
            while not self.seen or self.seen[-1] is not state:
                self._changed = anyio.Event()
                await self._changed.wait()
