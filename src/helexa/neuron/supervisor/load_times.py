"""The loads that this neuron made, remembered over restarts, and what they say of the next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from helexa.neuron.supervisor.load_rates import LoadWork, PastLoad, Rates, fitted, like
from helexa.protocol.ids import ModelId

REMEMBERED_MAX: Final = 200

log = logging.getLogger(__name__)


class LoadTimes:
    """Kept in `memory`, where one is given."""

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._past = _remembered(memory) if memory is not None else []
        self._last = {(one.model, one.how): one.seconds for one in self._past}
        self._rates = fitted(self._past)
        self._writing = anyio.Lock()

    @property
    def rates(self) -> Rates:
        return self._rates

    def scale(self, model: ModelId, how: str) -> float:
        """How much longer this one takes than `rates` say; 1 where it is not known."""
        return like(self._past, self._rates, model, how)

    def load_s(self, model: ModelId, how: str, work: LoadWork) -> float:
        """The last load of this model in this way, else what is to be expected."""
        last_s = self._last.get((model, how))
        return self._rates.seconds(work) if last_s is None else last_s

    async def note(self, load: PastLoad) -> None:
        """Remember one that came to its end."""
        self._past = [*self._past[-(REMEMBERED_MAX - 1) :], load]
        self._last[load.model, load.how] = load.seconds
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


def _is_possible(load: PastLoad) -> bool:
    work = load.work
    return 0 < load.seconds < 1e6 and all(
        0 <= each < 1 << 50 for each in (work.cold, work.warm, work.other)
    )
