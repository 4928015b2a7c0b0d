"""API keys: made, listed, revoked, and checked on every request.

The database is the truth and may be changed by another process
(`helexa keys revoke`); the check runs from memory. SQLite's `data_version`
tells in microseconds whether anybody else committed, so a revocation holds
within RECHECK_S without a query per request.
"""

from __future__ import annotations

import re
import secrets as random_source
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from helexa.cortex.accounts.api_key import NAME_CHARS_MAX, NAME_PATTERN, ApiKey, KeyUnknown, NewKey
from helexa.cortex.accounts.secrets import hash_of, hint_of, is_well_formed, new_secret
from helexa.cortex.store.engine import open_store
from helexa.cortex.store.schema import api_keys
from helexa.protocol.errors import KeyInvalid, KeyRevoked, RequestRejected

RECHECK_S: Final = 0.01
DEFAULT_ACCOUNT: Final = "default"


@dataclass(frozen=True, slots=True)
class KeyGrant:
    key_id: str
    account: str


class Keys:
    """All keys of one cortex, over one database. Not for use from several threads."""

    def __init__(
        self, engine: sa.Engine, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads=True)
        self._monotonic = monotonic
        # A connection of its own: data_version counts the commits of *other* connections.
        self._watch = engine.raw_connection()
        self._watcher = self._watch.cursor()
        self._seen_version = -1
        self._next_look_s = 0.0
        self._grants: dict[bytes, KeyGrant | None] = {}

    def close(self) -> None:
        self._watch.close()

    def create(self, name: str, *, account: str = DEFAULT_ACCOUNT) -> NewKey:
        """Raises RequestRejected for an empty or overlong name."""
        name = name.strip()
        if len(name) > NAME_CHARS_MAX or not re.search(NAME_PATTERN, name):
            raise RequestRejected(
                f"A key's name is 1 to {NAME_CHARS_MAX} characters that can be seen.", "name"
            )
        secret = new_secret()
        key = ApiKey(
            id=f"key_{random_source.token_hex(8)}",
            name=name,
            hint=hint_of(secret),
            account=account,
            created_at=int(time.time()),
        )
        with self._engine.begin() as connection:
            connection.execute(
                api_keys.insert().values(
                    secret_sha256=hash_of(secret), **msgspec.structs.asdict(key)
                )
            )
        self._next_look_s = 0.0
        return NewKey(key=key, secret=secret)

    def all(self) -> list[ApiKey]:
        """Oldest first, revoked ones included."""
        columns = [api_keys.c[field] for field in ApiKey.__struct_fields__]
        with self._reads.connect() as connection:
            rows = connection.execute(
                sa.select(*columns).order_by(api_keys.c.created_at, api_keys.c.id)
            )
            return [ApiKey(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name

    def revoke(self, key: str) -> ApiKey:
        """Revoke by id, name or the secret itself; revoking twice keeps the first time.

        Raises KeyUnknown, also when several active keys share the name.
        """
        found = self._find(key)
        if found.revoked_at is None:
            found = msgspec.structs.replace(found, revoked_at=int(time.time()))
            with self._engine.begin() as connection:
                connection.execute(
                    api_keys.update()
                    .where(api_keys.c.id == found.id)
                    .values(revoked_at=found.revoked_at)
                )
        self._next_look_s = 0.0
        return found

    def check(self, secret: str) -> KeyGrant:
        """Who this secret belongs to. Raises KeyInvalid or KeyRevoked. Takes microseconds."""
        now_s = self._monotonic()
        if now_s >= self._next_look_s:
            self._refresh()
            self._next_look_s = now_s + RECHECK_S
        try:
            grant = self._grants[hash_of(secret)]
        except KeyError:
            raise KeyInvalid from None
        if grant is None:
            raise KeyRevoked
        return grant

    def _refresh(self) -> None:
        self._watcher.execute("PRAGMA data_version")
        row = self._watcher.fetchone()
        version = row[0] if row else -1
        if version == self._seen_version:
            return
        with self._reads.connect() as connection:
            rows = connection.execute(
                sa.select(
                    api_keys.c.secret_sha256,
                    api_keys.c.id,
                    api_keys.c.account,
                    api_keys.c.revoked_at,
                )
            )
            self._grants = {
                digest: KeyGrant(key_id, account) if revoked_at is None else None
                for digest, key_id, account, revoked_at in rows
            }
        self._seen_version = version

    def _find(self, key: str) -> ApiKey:
        keys = self.all()
        by_id = [one for one in keys if one.id == key]
        if not by_id and is_well_formed(key):
            hint = hint_of(key)
            with self._reads.connect() as connection:
                wanted = connection.scalar(
                    sa.select(api_keys.c.id).where(api_keys.c.secret_sha256 == hash_of(key))
                )
            by_id = [one for one in keys if one.id == wanted and one.hint == hint]
        if by_id:
            return by_id[0]
        named = [one for one in keys if one.name == key]
        active = [one for one in named if one.revoked_at is None]
        if len(active) == 1:
            return active[0]
        if len(active) > 1:
            ids = ", ".join(one.id for one in active)
            raise KeyUnknown(f"Several keys are named {key!r}; name one by its id: {ids}.", "key")
        if named:
            return named[-1]
        raise KeyUnknown(f"No key has the id or name {key[:NAME_CHARS_MAX]!r}.", "key")


@contextmanager
def open_keys(home: Path) -> Iterator[Keys]:
    """The keys of the cortex whose own folder is `home`, whether it runs or not.

    Raises `helexa.cortex.store.engine.StoreUnusable`.
    """
    engine = open_store(home)
    keys = Keys(engine)
    try:
        yield keys
    finally:
        keys.close()
        engine.dispose()
