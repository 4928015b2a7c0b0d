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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from helexa.cortex.accounts.api_key import (
    ACCOUNT_PATTERN,
    NAME_CHARS_MAX,
    NAME_PATTERN,
    AccountShown,
    ApiKey,
    KeyUnknown,
    NewKey,
)
from helexa.cortex.accounts.limits import NO_LIMITS, Bounds, Limits, bounds, changed, read, written
from helexa.cortex.accounts.secrets import hash_of, hint_of, is_well_formed, new_secret
from helexa.cortex.settings import LimitsSettings
from helexa.cortex.store.engine import open_store
from helexa.cortex.store.schema import accounts, api_keys
from helexa.protocol.errors import KeyExpired, KeyInvalid, KeyRevoked, RequestRejected

RECHECK_S: Final = 0.01
DEFAULT_ACCOUNT: Final = "default"
TIME_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""
LIMITS: Final = LimitsSettings()


@dataclass(frozen=True, slots=True)
class KeyGrant:
    key_id: str
    account: str
    bounds: Bounds
    expires_at: int | None = None


class Keys:
    """All keys of one cortex, over one database. Not for use from several threads."""

    def __init__(
        self,
        engine: sa.Engine,
        defaults: LimitsSettings = LIMITS,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._defaults = defaults
        self._unix = unix
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

    def create(
        self,
        name: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        limits: Limits = NO_LIMITS,
        expires_at: int | None = None,
    ) -> NewKey:
        """Raises RequestRejected for a name, an account or an expiry that cannot be."""
        name = name.strip()
        if len(name) > NAME_CHARS_MAX or not re.search(NAME_PATTERN, name):
            raise RequestRejected(
                f"A key's name is 1 to {NAME_CHARS_MAX} characters that can be seen.", "name"
            )
        _check_account(account)
        _check_expiry(expires_at)
        secret = new_secret()
        key = ApiKey(
            id=f"key_{random_source.token_hex(8)}",
            name=name,
            hint=hint_of(secret),
            account=account,
            created_at=int(self._unix()),
            expires_at=expires_at,
            limits=limits,
        )
        with self._engine.begin() as connection:
            connection.execute(
                api_keys.insert().values(
                    secret_sha256=hash_of(secret),
                    **{**msgspec.structs.asdict(key), "limits": written(limits)},
                )
            )
        self._next_look_s = 0.0
        return NewKey(key=key, secret=secret)

    def change(
        self,
        key: str,
        limits: Limits,
        *,
        unset: tuple[str, ...] = (),
        expires_at: int | None = None,
    ) -> ApiKey:
        """Set what `limits` says, and forget what `unset` names; `expires_at` may be unset, too.

        In force for the next request. Raises KeyUnknown and RequestRejected.
        """
        if expires_at is not None:
            _check_expiry(expires_at)
        found = self._find(key)
        ends = None if "expires_at" in unset else found.expires_at
        named = tuple(one for one in unset if one != "expires_at")
        found = msgspec.structs.replace(
            found,
            limits=changed(found.limits, limits, named),
            expires_at=ends if expires_at is None else expires_at,
        )
        with self._engine.begin() as connection:
            connection.execute(
                api_keys.update()
                .where(api_keys.c.id == found.id)
                .values(limits=written(found.limits), expires_at=found.expires_at)
            )
        self._next_look_s = 0.0
        return found

    def accounts(self) -> list[AccountShown]:
        """By name: those that say something, and those that a key names."""
        held = Counter(one.account for one in self.all() if one.revoked_at is None)
        said = self._said()
        return [
            AccountShown(name=name, keys=held[name], limits=said.get(name, NO_LIMITS))
            for name in sorted({*held, *said})
        ]

    def change_account(
        self, name: str, limits: Limits, unset: tuple[str, ...] = ()
    ) -> AccountShown:
        """As `change`, for all keys of an account together. Raises RequestRejected."""
        _check_account(name)
        with self._engine.begin() as connection:
            row = connection.execute(
                sa.select(accounts.c.limits).where(accounts.c.name == name)
            ).first()
            new = changed(read(row[0]) if row else NO_LIMITS, limits, unset)
            if row is None:
                connection.execute(
                    accounts.insert().values(
                        name=name, limits=written(new), created_at=int(self._unix())
                    )
                )
            else:
                connection.execute(
                    accounts.update().where(accounts.c.name == name).values(limits=written(new))
                )
        self._next_look_s = 0.0
        return next(one for one in self.accounts() if one.name == name)

    def all(self) -> list[ApiKey]:
        """Oldest first, revoked ones included."""
        columns = [api_keys.c[field] for field in ApiKey.__struct_fields__]
        with self._reads.connect() as connection:
            rows = connection.execute(
                sa.select(*columns).order_by(api_keys.c.created_at, api_keys.c.id)
            )
            return [
                ApiKey(**{**row._mapping, "limits": read(row.limits)})  # noqa: SLF001 - public
                for row in rows
            ]

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
        """Whose this secret is. Raises KeyInvalid, KeyRevoked or KeyExpired. Takes microseconds."""
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
        if grant.expires_at is not None and self._unix() >= grant.expires_at:
            raise KeyExpired
        return grant

    def _refresh(self) -> None:
        self._watcher.execute("PRAGMA data_version")
        row = self._watcher.fetchone()
        version = row[0] if row else -1
        if version == self._seen_version:
            return
        said = self._said()
        grants: dict[bytes, KeyGrant | None] = {}
        known: dict[tuple[str, str | None], Bounds] = {}
        with self._reads.connect() as connection:
            for row in connection.execute(sa.select(api_keys)):
                if row.revoked_at is not None:
                    grants[row.secret_sha256] = None
                    continue
                what = (row.account, row.limits)
                if what not in known:
                    account = said.get(row.account, NO_LIMITS)
                    known[what] = bounds(self._defaults, account, read(row.limits))
                grants[row.secret_sha256] = KeyGrant(
                    row.id, row.account, known[what], row.expires_at
                )
        self._grants = grants
        self._seen_version = version

    def _said(self) -> dict[str, Limits]:
        """What accounts say."""
        with self._reads.connect() as connection:
            rows = connection.execute(sa.select(accounts.c.name, accounts.c.limits))
            return {name: read(text) for name, text in rows}

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


def _check_account(name: str) -> None:
    if not re.search(ACCOUNT_PATTERN, name):
        raise RequestRejected(
            "An account's name is 1 to 64 letters, digits and any of . _ @ + -, the first of them "
            "a letter or a digit.",
            "account",
        )


def _check_expiry(expires_at: int | None) -> None:
    if expires_at is not None and not 0 < expires_at <= TIME_MAX:
        raise RequestRejected(f"A key's expiry is 1 to {TIME_MAX}, in Unix seconds.", "expires_at")


@contextmanager
def open_keys(home: Path, defaults: LimitsSettings = LIMITS) -> Iterator[Keys]:
    """The keys of the cortex whose own folder is `home`, whether it runs or not.

    `defaults` hold for keys that say nothing else.

    Raises `helexa.cortex.store.engine.StoreUnusable`.
    """
    engine = open_store(home)
    keys = Keys(engine, defaults)
    try:
        yield keys
    finally:
        keys.close()
        engine.dispose()
