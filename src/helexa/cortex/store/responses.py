"""Responses that clients come back for, in a database of their own.

Apart from the keys' one, which is read anew whenever it changes, and because what is deleted
here has to be gone: its pages are overwritten, and the log of writes is emptied after them.

One thread at a time writes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from helexa.cortex.store.engine import StoreUnusable, open_file
from helexa.cortex.store.kept import Kept

FILE_NAME: Final = "responses.db"
SCHEMA_VERSION: Final = 1
OLDEST_AT_ONCE: Final = 64

FAILURES: Final = (sa.exc.SQLAlchemyError, sqlite3.Error, OSError)
"""What a disk that is full or a database that is locked ends in."""

_metadata: Final = sa.MetaData()
_responses: Final = sa.Table(
    "responses",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("input", sa.LargeBinary, nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Index("responses_by_account", "account", "number"),
    sa.Index("responses_by_age", "created_at"),
)
_columns: Final = [_responses.c[name] for name in Kept.__struct_fields__]


class StoredResponses:
    """Bounds are in bytes; what is oldest goes first."""

    def __init__(self, engine: sa.Engine, *, bytes_max: int, account_bytes_max: int) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads=True)
        self._bytes_max = bytes_max
        self._account_bytes_max = account_bytes_max
        size = sa.func.sum(_responses.c.bytes)
        with self._reads.connect() as connection:
            rows = connection.execute(
                sa.select(_responses.c.account, size).group_by(_responses.c.account)
            )
            self._bytes = Counter({account: int(total) for account, total in rows})
        self._log_holds_removed = False

    @property
    def bytes(self) -> int:
        return self._bytes.total()

    def write(self, kept: Sequence[Kept], removed: Sequence[tuple[str, str]]) -> set[str]:
        """All of it or, where this raises one of FAILURES, nothing.

        `removed` are accounts with ids. Returns the ids of those that there were.
        """
        counts = self._bytes.copy()
        found = set()
        with self._engine.begin() as connection:
            for one in kept:
                values = {name: getattr(one, name) for name in Kept.__struct_fields__}
                # A write that failed late may have happened nevertheless.
                insert = _responses.insert().prefix_with("OR IGNORE")
                made = connection.execute(insert.values(**values, bytes=one.size_bytes)).rowcount
                counts[one.account] += one.size_bytes * made
            for account, response_id in removed:
                mine = (_responses.c.account == account) & (_responses.c.id == response_id)
                if _delete(connection, mine, counts):
                    found.add(response_id)
            before = counts.copy()
            for account in {one.account for one in kept}:
                theirs = _responses.c.account == account
                while (excess := counts[account] - self._account_bytes_max) > 0:
                    _delete_oldest(connection, theirs, excess, counts)
            while (excess := counts.total() - self._bytes_max) > 0:
                _delete_oldest(connection, sa.true(), excess, counts)
        self._bytes = counts
        # What had to make room can stay there until `expire`: it may be so at every write.
        self._log_holds_removed |= bool(found) or counts != before
        if found:
            self._empty_log()
        return found

    def expire(self, until: int) -> None:
        """Remove what was created at `until`, Unix seconds, or before. Raises FAILURES.

        Called every now and then, also for what others left to it.
        """
        counts = self._bytes.copy()
        with self._engine.begin() as connection:
            _delete(connection, _responses.c.created_at <= until, counts)
        self._log_holds_removed |= counts != self._bytes
        self._bytes = counts
        if self._log_holds_removed:
            self._empty_log()

    def one(self, account: str, response_id: str) -> Kept | None:
        """Raises FAILURES."""
        with self._reads.connect() as connection:
            return _one(connection, account, response_id)

    def line(
        self, account: str, response_id: str, *, bytes_max: int, count_max: int
    ) -> Sequence[Kept]:
        """From this response back to the first that it continues, or as far as there are any.

        Ends after the one that is too much. Raises FAILURES.
        """
        line: list[Kept] = []
        with self._reads.connect() as connection:
            while response_id and bytes_max >= 0 and len(line) <= count_max:
                one = _one(connection, account, response_id)
                if one is None:
                    break
                line.append(one)
                bytes_max -= one.size_bytes
                response_id = one.previous
        return line

    def _empty_log(self) -> None:
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            is_busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        # Somebody who reads at the moment holds it back.
        self._log_holds_removed = bool(is_busy)


def _one(connection: sa.Connection, account: str, response_id: str) -> Kept | None:
    row = connection.execute(
        sa.select(*_columns).where(
            (_responses.c.id == response_id) & (_responses.c.account == account)
        )
    ).first()
    return None if row is None else Kept(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def _delete(connection: sa.Connection, where: sa.ColumnElement[bool], counts: Counter[str]) -> int:
    rows = connection.execute(
        _responses.delete().where(where).returning(_responses.c.account, _responses.c.bytes)
    ).all()
    for account, size in rows:
        counts[account] -= size
        if counts[account] <= 0:
            del counts[account]
    return len(rows)


def _delete_oldest(
    connection: sa.Connection, among: sa.ColumnElement[bool], excess: int, counts: Counter[str]
) -> None:
    """As few of them as make `excess` bytes, or the first OLDEST_AT_ONCE."""
    oldest = connection.execute(
        sa.select(_responses.c.number, _responses.c.bytes)
        .where(among)
        .order_by(_responses.c.number)
        .limit(OLDEST_AT_ONCE)
    ).all()
    numbers = []
    for number, size in oldest:
        numbers.append(number)
        excess -= size
        if excess <= 0:
            break
    _delete(connection, _responses.c.number.in_(numbers), counts)


def _migrate(engine: sa.Engine, path: Path) -> None:
    event.listen(engine, "connect", _overwrite)
    # Those made before the rule was set do not know it.
    engine.dispose()
    with engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > SCHEMA_VERSION:
            raise StoreUnusable(
                f"the database {path} has schema {found}, written by a newer helexa; "
                f"this one knows schemas up to {SCHEMA_VERSION}"
            )
        _metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


def _overwrite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA secure_delete=ON").close()


@contextmanager
def stored_responses(
    home: Path, *, bytes_max: int, account_bytes_max: int
) -> Iterator[StoredResponses]:
    """Those of the cortex whose own folder is `home`. Raises StoreUnusable."""
    engine = open_file(home / FILE_NAME, _migrate)
    try:
        yield StoredResponses(engine, bytes_max=bytes_max, account_bytes_max=account_bytes_max)
    finally:
        engine.dispose()
