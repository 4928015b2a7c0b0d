"""What this cortex says of itself to the mesh, and when it says it anew."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final

import anyio
import msgspec

import helexa
from helexa.cortex.orchestrator.place.parts import Parts
from helexa.mesh.statements.records import RecordRejected, fitted
from helexa.protocol.records import Record
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.util.sockets import Address

SAY_EVERY_S: Final = 1.0
CLOCK_SET_S: Final = 30.0
"""A clock that moved this far against the monotonic one was set, and records carry dates."""
LOAD_EVERY_S: Final = 30.0
"""Between records that differ from the last in nothing but how busy this cortex is."""

log = logging.getLogger(__name__)


class Speaker:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._instance = secrets.token_hex(8)

    async def keep_saying(self) -> None:
        """Publish what changed, until cancelled."""
        said, said_s = None, 0.0
        began_s = self._parts.unix() - time.monotonic()
        while True:
            draft = self.draft()
            now_s = time.monotonic()
            if abs(self._parts.unix() - now_s - began_s) > CLOCK_SET_S:
                log.info("the clock was set: this cortex says anew what it is")
                said, began_s = None, self._parts.unix() - now_s
                self._parts.overlay.reconsider()
            changed = said is None or _but_load(draft) != _but_load(said)
            if changed or (draft != said and now_s - said_s >= LOAD_EVERY_S):
                said, said_s = draft, now_s
                try:
                    self._parts.overlay.publish(fitted(draft))
                except RecordRejected as error:
                    # Nobody would take it; the mesh goes on with what was said before.
                    log.error("this cortex cannot publish what it is: %s", error)  # noqa: TRY400
            await anyio.sleep(SAY_EVERY_S)

    def draft(self) -> Record:
        """What there is to say now; membership adds the sequence and the times."""
        parts = self._parts
        offers = parts.peers.public_offers() if parts.lends else ()
        slots = sum(offer.slots for offer in offers)
        free = sum(offer.free for offer in offers)
        return Record(
            node=parts.key.node_id,
            sequence=0,
            issued_s=0,
            expires_s=0,
            instance=self._instance,
            roles=parts.roles,
            name=parts.settings.name,
            region=parts.settings.region,
            agent=f"helexa/{helexa.__version__}",
            lowest=VERSION_MIN,
            highest=VERSION,
            addresses=_public(parts.node.ticket().addresses),
            offers=offers,
            load=_quarters(1 - free / slots) if slots else 0.0,
            certificate=parts.credentials.certificate_blob,
            revocations=parts.book.newest(parts.credentials.operator),
        )


def _but_load(record: Record) -> Record:
    offers = tuple(msgspec.structs.replace(offer, free=0) for offer in record.offers)
    return msgspec.structs.replace(record, load=0.0, offers=offers)


def _quarters(share: float) -> float:
    return round(4 * min(max(share, 0.0), 1.0)) / 4


def _public(addresses: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Without loopback, where there is anything else: that is every reader's own machine."""

    def kept(some: Sequence[str]) -> tuple[str, ...]:
        others = [text for text in some if "://" in text or not Address.parse(text).is_loopback]
        return tuple(others or some)

    return {name: kept(some) for name, some in addresses.items()}
