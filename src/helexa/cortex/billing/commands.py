"""What can be asked of the ledger. Each has a key: the same asked again changes nothing more."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One line of a transaction. More than 0 is owed to the account's owner by the cortex, and
    money that came in is negative at where it came from; so each transaction comes to 0.
    """

    account: str
    amount: int


class Post(msgspec.Struct, frozen=True, kw_only=True, tag="post"):
    """A transaction that stands by itself: a top-up, a grant, a payout."""

    key: str
    kind: str
    at: int
    """UTC seconds since 1970, of the ledger's own clock."""
    entries: tuple[Entry, ...]


class Reverse(msgspec.Struct, frozen=True, kw_only=True, tag="reverse"):
    """The opposite of a transaction, once: nothing that was written is ever changed.

    It goes through even where its wallet has spent the money: who asked for it back owes it then.
    """

    key: str
    kind: str
    at: int
    of: str
    """The key of the transaction."""


class Hold(msgspec.Struct, frozen=True, kw_only=True, tag="hold"):
    """Room for one request, before it begins: the most that it can come to."""

    key: str
    at: int
    wallet: str
    amount: int
    expires_at: int
    caps: tuple[str, ...] = ()
    """What else bounds it: of its key, of its organisation."""


class Charge(msgspec.Struct, frozen=True):
    """One attempt of a request: what its consumer pays for it, and who gets that."""

    attempt: str
    entries: tuple[Entry, ...]
    """All more than 0."""

    @property
    def amount(self) -> int:
        return sum(one.amount for one in self.entries)


class Settle(msgspec.Struct, frozen=True, kw_only=True, tag="settle"):
    """The one end of a hold: finished, given up, failed or found after a crash."""

    key: str
    """That of the hold."""
    kind: str
    at: int
    charges: tuple[Charge, ...] = ()


class Expire(msgspec.Struct, frozen=True, kw_only=True, tag="expire"):
    """A grant's time is over: what nobody spent, and nothing holds, goes back."""

    key: str
    at: int
    wallet: str
    grant: str


Command: TypeAlias = Post | Reverse | Hold | Settle | Expire
