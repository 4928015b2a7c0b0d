"""A response as it is kept, apart from the database, which those who only pass it on do without."""

from __future__ import annotations

import msgspec


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One response with what it answered."""

    id: str
    account: str
    created_at: int
    """Unix seconds."""
    previous: str = ""
    """The response that it continued."""
    input: bytes
    """Its own items, without those of `previous`: a JSON array."""
    response: bytes
    """The object that its client was given."""

    @property
    def size_bytes(self) -> int:
        return len(self.input) + len(self.response)
