"""The part of LAN discovery that touches zeroconf: its sockets, its cache, its records.

Imported by `lan.py` when it is needed, because it brings three megabytes along.

zeroconf's own browser is not used. It schedules work for every instance that
anybody names, and its first question asks for an answer to one port that all
programs of a machine share, so that only one of them hears it. Here one question
goes out by multicast, and what comes back is put together from the cache, which
is emptied long before it is large.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
from zeroconf import (  # type: ignore[attr-defined]  # The first two miss in its __all__.
    DNSOutgoing,
    DNSQuestion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    Zeroconf,
    current_time_millis,
)
from zeroconf.asyncio import AsyncZeroconf

from helexa.mesh.discovery.advert import Advert, Heard, write_txt
from helexa.mesh.discovery.interfaces import HOSTS_MAX, Interface, hosts_of

CACHED_MAX: Final = 512
"""Records of whatever kind. One may hold 9 KB, so this is what bounds the memory."""
PARTIAL_MAX: Final = 64
"""Instances that were named and whose other records have not come yet."""
PARTIAL_LOOKS: Final = 16
"""Packets after which such an instance is given up until it is named again."""
KNOWN_MAX: Final = 24
"""Answers named in a question so that they are not given again; they fit one packet."""
CLOSE_S: Final = 2.0

_A, _PTR, _TXT, _AAAA, _SRV = 1, 12, 16, 28, 33
_IN: Final = 1
_QUERY: Final = 0


class Station:
    """Multicast DNS on some interfaces. Made by `opened`."""

    def __init__(self, zeroconf: Zeroconf, service: str) -> None:
        self._zeroconf = zeroconf
        self._service = service

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        service: str,
        some: Sequence[Interface],
        on_heard: Callable[[Heard], None],
        on_noise: Callable[[int], None],
    ) -> AsyncIterator[Station]:
        """Hear adverts of `service` inside the block, one's own included.

        `on_noise` is told how many records each packet held, of whatever
        service, before they are read: who counts can close the block. Raises
        OSError when no socket can be had.
        """
        both = AsyncZeroconf(interfaces=_choice(some))
        zeroconf = both.zeroconf
        try:
            await zeroconf.async_wait_for_start()
            zeroconf.async_add_listener(_Ear(zeroconf, service, on_heard, on_noise), None)
            yield cls(zeroconf, service)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_S):
                await both.async_close()

    def ask(self) -> None:
        """Who is there? Those who are answer within a fifth of a second."""
        now = current_time_millis()
        out = DNSOutgoing(_QUERY)
        out.add_question(DNSQuestion(self._service, _PTR, _IN))
        known = self._zeroconf.cache.get_all_by_details(self._service, _PTR, _IN)
        for record in [one for one in known if not one.is_stale(now)][:KNOWN_MAX]:
            out.add_answer_at_time(record, now)
        self._zeroconf.async_send(out)

    @asynccontextmanager
    async def announced(self, advert: Advert, some: Sequence[Interface]) -> AsyncIterator[None]:
        """Answer for `advert` inside the block; say goodbye once at its end."""
        info = _info(advert, self._service, some)
        # The instance is named for a key, so there is nobody to contest the name.
        sending: Any = await self._zeroconf.async_register_service(
            info, cooperating_responders=True
        )
        try:
            yield
        finally:
            sending.cancel()
            # Once, not three times with pauses: a stopping node keeps nobody waiting.
            if (goodbye := self._zeroconf.generate_unregister_all_services()) is not None:
                with suppress(OSError):
                    self._zeroconf.async_send(goodbye)


class _Ear(RecordUpdateListener):
    """Called by zeroconf, once with a packet's records and once when they are in the cache."""

    def __init__(
        self,
        zeroconf: Zeroconf,
        service: str,
        on_heard: Callable[[Heard], None],
        on_noise: Callable[[int], None],
    ) -> None:
        self._cache = zeroconf.cache
        self._service = service
        self._on_heard = on_heard
        self._on_noise = on_noise
        self._cached = 0
        self._named: dict[str, bool] = {}
        """Instance: whether the last word on it was a goodbye."""
        self._partial: dict[str, int] = {}
        """Instance: how many more packets it is looked for in."""

    def async_update_records(self, _zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Note which instances the packet is about; `_zc` is the one that was given."""
        self._cached += len(records)
        for update in records:
            record: Any = update.new
            if record.type == _PTR and record.key == self._service:
                self._named[record.alias] = record.is_expired(now)
            elif (
                record.type in (_TXT, _SRV)
                and record.key.endswith(f".{self._service}")
                and not record.is_expired(now)
            ):
                self._named.setdefault(record.name, False)
        self._on_noise(len(records))

    def async_update_records_complete(self) -> None:
        """Tell of those instances on whom everything is known now."""
        named, self._named = self._named, {}
        for name in named:
            if name in self._partial or len(self._partial) < PARTIAL_MAX:
                self._partial[name] = PARTIAL_LOOKS
        for name, looks in (*self._partial.items(),):
            gone = named.get(name, False)
            heard = Heard(self._instance(name), gone=True) if gone else self._heard(name)
            self._partial[name] = looks - 1
            if heard is not None or looks <= 1:
                del self._partial[name]
            if heard is not None:
                self._on_heard(heard)
        if self._cached > CACHED_MAX:
            self._flush()

    def _heard(self, name: str) -> Heard | None:
        """What the cache holds on that instance, if that is enough."""
        txt: Any = self._cache.get_by_details(name, _TXT, _IN)
        srv: Any = self._cache.get_by_details(name, _SRV, _IN)
        if txt is None or srv is None:
            return None
        records: list[Any] = [
            *self._cache.async_all_by_details(srv.server, _A, _IN),
            *self._cache.async_all_by_details(srv.server, _AAAA, _IN),
        ]
        hosts = tuple(_spelled(record.address) for record in records[: 4 * HOSTS_MAX])
        return Heard(self._instance(name), txt.text, hosts) if hosts else None

    def _instance(self, name: str) -> str:
        return name.lower().removesuffix(f".{self._service}")

    def _flush(self) -> None:
        self._cached = 0
        self._partial.clear()
        cache = self._cache
        cache.async_remove_records(
            [record for name in cache.names() for record in cache.entries_with_name(name)]
        )


def _choice(some: Sequence[Interface]) -> list[str | int]:
    """As zeroconf wants it: an IPv4 address, and an index for IPv6, of each interface."""
    choice: list[str | int] = []
    for one in some:
        fours = [address for address in one.addresses if address.version == 4]
        choice += [str(address.ip) for address in fours[:1]]
        # Loopback knows no IPv6 multicast but by its own route; IPv4 does there.
        if len(fours) < len(one.addresses) and not (one.is_loopback and fours):
            choice.append(one.index)
    return choice


def _info(advert: Advert, service: str, some: Sequence[Interface]) -> ServiceInfo:
    return ServiceInfo(
        service,
        f"{advert.instance}.{service}",
        port=next(iter(advert.ports.values())),
        properties=write_txt(advert),
        server=f"helexa-{advert.instance}.local.",
        parsed_addresses=list(advert.hosts or hosts_of(some)),
    )


def _spelled(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
