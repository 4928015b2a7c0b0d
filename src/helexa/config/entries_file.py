"""The operator's file as the source of a catalogue that follows it while the cortex runs.

The whole configuration is read again with the flags and variables of the start, so what a
flag says goes on winning, and a file with any mistake in it changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from helexa.config.load import Config, stamp_of
from helexa.config.origin import ConfigRefused
from helexa.cortex.orchestrator.entries import Written

LIVE: Final = "orchestrator"
"""The section that is in force at once, except for what follows."""
AFTER_RESTART: Final = frozenset({"orchestrator.provision"})
_OF_A_CORTEX: Final = ("", "cortex", "mesh", "federation", LIVE)


class EntriesFile:
    """Implements `helexa.cortex.orchestrator.entries.EntriesSource`."""

    def __init__(self, config: Config) -> None:
        """`config` is the one that the cortex starts with."""
        self._config = config

    @property
    def where(self) -> str:
        return str(self._config.file or "")

    def given(self) -> Written:
        return _written(self._config, ())

    def read(self) -> Written:
        stamp = self.stamp()
        try:
            now = self._config.again()
        except ConfigRefused as refused:
            problems = tuple(str(problem) for problem in refused.problems)
            return Written(problems=problems, stamp=stamp)
        written = _written(now, tuple(_stale(self._config, now)))
        kept = self._config.cortex.orchestrator.provision
        live = msgspec.structs.replace(written.orchestrator, provision=kept)
        return replace(written, orchestrator=live)

    def stamp(self) -> object:
        return stamp_of(self._config.file)


def _written(config: Config, stale: tuple[str, ...]) -> Written:
    return Written(
        entries=config.cortex.models,
        origins=tuple(map(str, config.listed)),
        orchestrator=config.cortex.orchestrator,
        stale=stale,
        stamp=config.stamp,
    )


def _stale(before: Config, now: Config) -> list[str]:
    return [
        f"{found.origin}: {key}"
        for key, found in now.values.items()
        if found.setting.section in _OF_A_CORTEX
        and (found.setting.section != LIVE or key in AFTER_RESTART)
        and found.value != before.values[key].value
    ]
