"""The loads that this neuron made, remembered over restarts, and what they say of the next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from helexa.neuron.supervisor.load_rates import PastLoad, PhaseTimes, ThisLoad, expected, fitted

REMEMBERED_MAX: Final = 200

log = logging.getLogger(__name__)


class LoadTimes:
    """Kept in `memory`, where one is given."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._past = _remembered(memory) if memory is not None else []
        self._last = {(one.load.model, one.load.how): one.took.seconds for one in self._past}
        self._rates = fitted(self._past)
        self._writing = anyio.Lock()

    def expected(self, load: ThisLoad) -> PhaseTimes:
        return expected(self._past, self._rates, load)

    def load_s(self, load: ThisLoad) -> float:
        """The last load of this model in this way, else what is to be expected."""
        last_s = self._last.get((load.model, load.how))
        return self._rates.times(load.work).seconds if last_s is None else last_s

    async def note(self, past: PastLoad) -> None:
        """Remember one that came to its end."""
        self._past = [*self._past[-(REMEMBERED_MAX - 1) :], past]
        self._last[past.load.model, past.load.how] = past.took.seconds
        self._rates = fitted(self._past)
        if self._memory is None:
            return
        async with self._writing:
            try:
                await anyio.to_thread.run_sync(self._write, self._memory, list(self._past))
            except OSError as error:
                log.warning("load times not kept", extra={"why": str(error)})

    @staticmethod
    def _write(memory: Path, past: list[PastLoad]) -> None:
        draft = memory.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(past))
        draft.replace(memory)


def _remembered(memory: Path) -> list[PastLoad]:
    """What cannot be read is only less known: it is learnt again."""
    try:
        past = msgspec.json.decode(memory.read_bytes(), type=list[PastLoad])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return [one for one in past if _is_possible(one)][-REMEMBERED_MAX:]


def _is_possible(past: PastLoad) -> bool:
    work, took = past.load.work, past.took
    sizes, times = (work.cold, work.warm, work.other), msgspec.structs.astuple(took)
    return all(0 <= size < 1 << 50 for size in sizes) and all(0 <= one < 1e6 for one in times)
