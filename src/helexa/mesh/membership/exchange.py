"""How records get to where they lack: announced by heads, asked for once, served in pages.

A record crosses the mesh once per node and not once per link, because only its
head is pushed. Nobody can push a record that was not asked for, save its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from helexa.mesh.membership.desk import Desk
from helexa.mesh.membership.heads import Short, Version, shorts_in
from helexa.protocol.gossip import RECORDS_MAX, STATEMENTS_MAX, WANTED_MAX, Records, Want
from helexa.protocol.ids import NodeId

PENDING_MAX: Final = 8_192
SOURCES_MAX: Final = 4
TRIES_MAX: Final = 6
PAGE_BYTES: Final = 128 << 10
"""Of one message: an eighth of what a frame holds, so that urgent news does not wait behind it."""


class Wanted:
    """A record that was asked for and has not come."""

    __slots__ = ("asked", "sources", "tries", "version")

    def __init__(self, version: Version, asked: NodeId) -> None:
        self.version = version
        self.asked = asked
        self.sources: list[NodeId] = []
        """Others who have it, for when the first does not answer."""
        self.tries = 1


class Exchange:
    """Asks each record of one source at a time, and serves what others want."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pending: dict[Short, Wanted] = {}
        self._asking: dict[NodeId, list[Short]] = {}

    def want(self, short: Short, version: Version, source: NodeId) -> None:
        """Ask `source` at the end of this call, unless somebody was asked already."""
        wanted = self._pending.get(short)
        if wanted is not None:
            wanted.version = max(wanted.version, version)
            if source != wanted.asked and len(wanted.sources) < SOURCES_MAX:
                wanted.sources.append(source)
        elif len(self._pending) < PENDING_MAX:
            self._pending[short] = Wanted(version, source)
            self._asking.setdefault(source, []).append(short)

    def is_wanted(self, short: Short) -> bool:
        """Whether that record was asked for and has not come."""
        return short in self._pending

    def arrived(self, short: Short) -> None:
        """It came, or is not wanted any more."""
        self._pending.pop(short, None)

    def pending_of(self, source: NodeId) -> bool:
        """Whether that node still owes something. For pages: looked at once per message."""
        return any(wanted.asked == source for wanted in self._pending.values())

    def flush(self) -> None:
        """Send what this call made worth asking; the last thing that each call does."""
        if not self._asking:
            return
        asking, self._asking = self._asking, {}
        for source, shorts in asking.items():
            for start in range(0, len(shorts), WANTED_MAX):
                page = shorts[start : start + WANTED_MAX]
                self._desk.send(source, Want(shorts=b"".join(page)))
            self._expect(source, shorts)

    def _expect(self, source: NodeId, shorts: list[Short]) -> None:
        def over() -> None:
            for short in shorts:
                wanted = self._pending.get(short)
                if wanted is None or wanted.asked != source:
                    continue
                if wanted.tries == TRIES_MAX:
                    del self._pending[short]
                    continue
                # Each in turn, and the first again: who announced it does so only once.
                wanted.tries += 1
                wanted.sources.append(wanted.asked)
                wanted.asked = wanted.sources.pop(0)
                self._asking.setdefault(wanted.asked, []).append(short)

        self._desk.after(self._desk.preset.want_s, over)

    # --- the other side

    def serve(self, sender: NodeId, shorts: bytes) -> None:
        """Send what is wanted, as far as that sender's allowance goes."""
        directory, credit, now_s = self._desk.directory, self._desk.credit(sender), self._desk.now_s
        records: list[bytes] = []
        statements: list[bytes] = []
        page_bytes = 0
        for short in shorts_in(shorts):
            entry = directory.entries.get(short)
            if entry is None or short in directory.gone:
                continue
            blob = entry.signed.blob
            if not credit.served_bytes.take(now_s, len(blob)):
                self._desk.reject("greed", sender)
                break
            full = page_bytes + len(blob) > PAGE_BYTES or len(records) == RECORDS_MAX
            if full or len(statements) == STATEMENTS_MAX:
                self._send(sender, records, statements)
                records, statements, page_bytes = [], [], 0
            records.append(blob)
            statements += directory.objection(short)
            page_bytes += len(blob)
        self._send(sender, records, statements)

    def _send(self, node: NodeId, records: Iterable[bytes], statements: Iterable[bytes]) -> None:
        message = Records(records=tuple(records), statements=tuple(statements))
        if message.records:
            self._desk.send(node, message)
