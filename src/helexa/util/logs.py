"""Logs: events as short texts plus fields, for a person or for a machine, always on stderr.

    log.info("neuron lost", extra={"node": node, "silent_s": 4.2})

stdout belongs to the command's own output.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("human", "json")
VALUE_CHARS_MAX: Final = 2_000
"""A hostile peer's words may be in a field; a log line stays a line."""

_STANDARD: Final = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None)).keys() | {"message", "asctime", "taskName"}
)


def set_up(level: str = "info", form: str = "human", stream: TextIO | None = None) -> None:
    """Send every logger to `stream` (stderr). Called once, by the command."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else Human())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    if level != "debug":
        # asyncio's own remarks about slow callbacks are for those who debug.
        logging.getLogger("asyncio").setLevel(logging.WARNING)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, part, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "part": record.name,
            "event": record.getMessage()[:VALUE_CHARS_MAX],
        }
        for key, value in fields_of(record).items():
            line.setdefault(key, _plain(value))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Human(logging.Formatter):
    """`12:03:44 info  helexa.cortex  neuron lost  node=ab12 silent_s=4.2`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = " ".join(f"{key}={_word(value)}" for key, value in fields_of(record).items())
        text = _one_line(record.getMessage())
        line = f"{clock} {record.levelname.lower():7} {record.name}  {text}"
        if words:
            line = f"{line}  {words}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class Every:
    """True at most once in `seconds`; `missed` counts what was kept back since the last True."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.missed = 0
        self._held_back = 0
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")

    def __call__(self) -> bool:
        now = self._clock()
        if now < self._next:
            self._held_back += 1
            return False
        self._next = now + self._seconds
        self.missed, self._held_back = self._held_back, 0
        return True


def every(seconds: float, clock: Callable[[], float] = time.monotonic) -> Every:
    """A limiter for a line that a peer could repeat at will: `if seldom(): log.warning(...)`."""
    return Every(seconds, clock)


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:VALUE_CHARS_MAX]


def _word(value: object) -> str:
    text = _one_line(str(value))
    return f'"{text}"' if " " in text else text


def _one_line(text: str) -> str:
    # Control characters from a peer could rewrite a terminal; escaped, they are only letters.
    cut = text[:VALUE_CHARS_MAX]
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
