"""Opening the database: SQLite in the cortex's own folder, readable by its owner alone.

WAL lets a command such as `helexa keys revoke` write while the cortex runs.
The driver's own transaction handling is turned off because it delays BEGIN
until the first write, which is too late to take the write lock in order.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from helexa.cortex.store.migrations import STEPS
from helexa.cortex.store.schema import SCHEMA_VERSION, metadata, schema_versions

BUSY_TIMEOUT_MS: Final = 5_000
FILE_NAME: Final = "helexa.db"


class StoreUnusable(Exception):
    """The database cannot be opened, or a newer helexa wrote it. Says which file and why."""


def open_store(home: Path) -> sa.Engine:
    """The database of the cortex at `home`, created and brought to this schema where needed.

    Raises StoreUnusable.
    """
    return open_file(home / FILE_NAME, _migrate)


def open_file(path: Path, migrate: Callable[[sa.Engine, Path], None]) -> sa.Engine:
    """One database by these rules; `migrate` brings it to its schema. Raises StoreUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite would create it with the umask's bits; the first open decides.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        engine = sa.create_engine(f"sqlite:///{path}")
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        migrate(engine, path)
    except (OSError, sa.exc.DBAPIError, sqlite3.Error) as error:
        raise StoreUnusable(f"cannot use the database {path}: {error}") from error
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A write takes its lock at the start, in order; one that upgrades midway can only fail.
    # A reader must not wait behind a writer: `engine.execution_options(reads=True)`.
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _migrate(engine: sa.Engine, path: Path) -> None:
    """To this schema, or not at all: one transaction, whoever else opens it meanwhile."""
    with engine.begin() as connection:
        schema_versions.create(connection, checkfirst=True)
        found = connection.scalar(sa.select(sa.func.max(schema_versions.c.version)))
        if found is None:
            metadata.create_all(connection)
            _note(connection, SCHEMA_VERSION)
        elif found > SCHEMA_VERSION:
            raise StoreUnusable(
                f"the database {path} has schema {found}, written by a newer helexa; "
                f"this one knows schemas up to {SCHEMA_VERSION}"
            )
        else:
            for version in range(found + 1, SCHEMA_VERSION + 1):
                for statement in STEPS[version]:
                    connection.exec_driver_sql(statement)
                _note(connection, version)


def _note(connection: sa.Connection, version: int) -> None:
    connection.execute(
        schema_versions.insert().values(version=version, applied_at=int(time.time()))
    )
