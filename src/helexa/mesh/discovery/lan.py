"""Being found, and finding, on the networks that this machine stands in, by multicast DNS.

`Lan` keeps a station on the air, looks again at growing intervals, moves along
when the interfaces change, and remembers who was heard. Everybody on a LAN can
say anything there: what cannot be read is counted, what is read is bounded, and
a flood makes it deaf for a while instead of busy.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from helexa.mesh.discovery.advert import (
    REALM,
    Advert,
    AdvertMalformed,
    Found,
    Heard,
    read,
    service_of,
)
from helexa.mesh.discovery.interfaces import Interface, interfaces
from helexa.util.background import background
from helexa.util.logs import every

if TYPE_CHECKING:
    from helexa.mesh.discovery._station import Station

log = logging.getLogger(__name__)

FOUND_MAX: Final = 256
"""Remembered. A node needs a handful to begin with; the mesh tells it of the others."""
FLOOD: Final = 8_192
"""Records within FLOOD_S that are no LAN any more: a thousand cortexes that answer at once."""
FLOOD_S: Final = 10.0
DEAF_S: Final = 30.0
"""After a flood, and before the network is tried again where it failed."""
RESCAN_S: Final = 10.0
"""How soon a new interface, or a changed address, is used."""
ASK_FIRST_S: Final = 1.0
ASK_MOST_S: Final = 300.0
"""Who starts later says so unasked; questions are for adverts that were lost."""

Interfaces = Callable[[], Sequence[Interface]]
OnFound = Callable[[Found], None]

_seldom: Final = every(60.0)


class Lan:
    """Made by `running`."""

    def __init__(
        self,
        advert: Advert | None,
        on_found: OnFound,
        service: str,
        *,
        rescan_s: float,
        deaf_s: float,
    ) -> None:
        self.problem = "not started yet"
        """Why the LAN is not searched now; empty while it is."""
        self.ignored = 0
        """Adverts that this node could not use."""
        self.floods = 0
        self._advert = advert
        self._on_found = on_found
        self._service = service
        self._rescan_s = rescan_s
        self._deaf_s = deaf_s
        self._here: Sequence[Interface] = ()
        self._found: dict[str, Found] = {}
        """By instance, the least recently heard first."""
        self._news: dict[str, Found] = {}
        """What of it `on_found` was not told yet."""
        self._heard = anyio.Event()
        self._flood = _Flood(FLOOD, FLOOD_S)
        self._deafened = anyio.Event()
        self._asked = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        advert: Advert | None,
        on_found: OnFound,
        *,
        realm: str = REALM,
        loopback: bool = False,
        among: Interfaces | None = None,
        rescan_s: float = RESCAN_S,
        deaf_s: float = DEAF_S,
    ) -> AsyncIterator[Lan]:
        """Announce `advert`, if there is one, and report others inside the block.

        `on_found` is called for every node that is new, came back after a
        goodbye, or says something else than before; it must not wait. Nodes of
        another `realm` are neither seen nor shown to. `loopback` adds the
        loopback interface; `among` replaces the choice of interfaces, which is
        made anew every `rescan_s` seconds.

        A network that cannot be used is no error: `problem` says why, and it is
        tried again. Raises ValueError for what is no realm.
        """
        lan = cls(advert, on_found, service_of(realm), rescan_s=rescan_s, deaf_s=deaf_s)
        async with background() as tasks:
            tasks.start_soon(lan._report)
            tasks.start_soon(lan._live, among or (lambda: interfaces(loopback=loopback)))
            yield lan

    @property
    def found(self) -> tuple[Found, ...]:
        """Who was heard and did not say goodbye, the most recent first; at most FOUND_MAX."""
        return tuple(reversed(self._found.values()))

    def ask(self) -> None:
        """Look again now instead of later. What is new comes to `on_found`."""
        self._asked.set()

    async def _live(self, among: Interfaces) -> None:
        while True:
            self._here = among()
            if not self._here:
                self._fail("no network interface is up")
                await anyio.sleep(self._rescan_s)
                continue
            try:
                await self._on_air(self._here, among)
            except OSError as error:
                self._fail(f"multicast DNS cannot be used: {error.strerror or error}")
                await anyio.sleep(self._deaf_s)
            else:
                if self._deafened.is_set():
                    self._deafened = anyio.Event()
                    self._fail(f"more than {FLOOD} records in {FLOOD_S:g} s: deaf for a while")
                    await anyio.sleep(self._deaf_s)

    async def _on_air(self, here: Sequence[Interface], among: Interfaces) -> None:
        """Return when the interfaces changed, or after a flood."""
        # Three megabytes that a node without LAN discovery need not hold.
        from helexa.mesh.discovery._station import Station

        async with Station.opened(self._service, here, self._hear, self._count) as station:
            if self.problem:
                log.info("searching the LAN", extra={"on": ", ".join(one.name for one in here)})
            self.problem = ""
            if self._advert is None:
                await self._stay(station, here, among)
            else:
                async with station.announced(self._advert, here):
                    await self._stay(station, here, among)

    async def _stay(self, station: Station, here: Sequence[Interface], among: Interfaces) -> None:
        async with background() as tasks:
            tasks.start_soon(self._ask, station)
            while not self._deafened.is_set() and among() == here:
                with anyio.move_on_after(self._rescan_s):
                    await self._deafened.wait()

    async def _ask(self, station: Station) -> None:
        pause_s = ASK_FIRST_S
        while True:
            station.ask()
            with anyio.move_on_after(pause_s):
                await self._asked.wait()
            # However often it is asked for, the LAN hears one question a second.
            if self._asked.is_set():
                self._asked = anyio.Event()
                await anyio.sleep(ASK_FIRST_S)
            else:
                pause_s = min(2 * pause_s, ASK_MOST_S)

    async def _report(self) -> None:
        while True:
            await self._heard.wait()
            self._heard = anyio.Event()
            news, self._news = self._news, {}
            for found in news.values():
                try:
                    self._on_found(found)
                except Exception:
                    # One consumer's mistake over one advert must not end the search.
                    log.exception("what was found could not be used")

    # --- called by zeroconf between the tasks: quick, and nothing may leave

    def _count(self, records: int) -> None:
        if not self._deafened.is_set() and self._flood.is_one(records, time.monotonic()):
            self.floods += 1
            self._deafened.set()

    def _hear(self, heard: Heard) -> None:
        if self._deafened.is_set():
            return
        if heard.gone:
            self._found.pop(heard.instance, None)
            return
        try:
            found = read(heard, self._here)
        except AdvertMalformed as reason:
            self.ignored += 1
            if _seldom():
                log.info("an advert was ignored: %s", reason, extra={"missed": _seldom.missed})
            return
        if self._advert is None or found.ticket.node != self._advert.node:
            self._remember(heard.instance, found)

    def _remember(self, instance: str, found: Found) -> None:
        before = self._found.pop(instance, None)
        self._found[instance] = found
        if len(self._found) > FOUND_MAX:
            self._news.pop(oldest := next(iter(self._found)), None)
            del self._found[oldest]
        if found != before:
            self._news[instance] = found
            self._heard.set()

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("the LAN is not searched: %s", problem)
        self.problem = problem


class _Flood:
    """Whether more than `most` came within `window_s`; counted in windows that do not overlap."""

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._window_s = window_s
        self._until_s = float("-inf")
        self._count = 0

    def is_one(self, more: int, now_s: float) -> bool:
        if now_s >= self._until_s:
            self._until_s, self._count = now_s + self._window_s, 0
        self._count += more
        if self._count <= self._most:
            return False
        self._until_s = float("-inf")
        return True
