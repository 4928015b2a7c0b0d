"""Files in pieces: what a download stores, and what decides which piece is taken from whom.

A file is cut the same way on every neuron, because the cut follows from its size alone. A
download has lanes; each asks the `Picker` for a piece and its giver, fetches it and writes
it into the `PieceStore`, which has it on disk, hashed and journalled, before `write` returns.

Rules:

- The store trusts nobody: `write` checks the length, and the digest where one is declared
  for the piece. Whether the whole is what was declared shows at the end. Where it is not,
  pieces that peers gave are dropped and taken from the origin.
- A piece that a picker has handed out is not handed out again before `ended`, unless the
  picker means two lanes to race for it; the second `write` of a piece changes nothing.
- A picker decides and waits; it moves no bytes. A giver moves bytes and decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from helexa.protocol.ids import ModelId
from helexa.protocol.messages import PieceHolder

PIECE_BYTES: Final = 4 << 20
PIECES_MAX: Final = 32_768
"""Of one file; of a larger one the pieces are larger, so that what is told of them is not."""
FILE_BYTES_MAX: Final = 1 << 44
ORIGIN: Final = "origin"
"""The giver's name that stands for the source itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One file and its cut. `key` is the same wherever the content is."""

    key: str
    size: int

    @property
    def piece_bytes(self) -> int:
        bytes_each = PIECE_BYTES
        while -(-self.size // bytes_each) > PIECES_MAX:
            bytes_each *= 2
        return bytes_each

    @property
    def count(self) -> int:
        return -(-self.size // self.piece_bytes)

    def span(self, index: int) -> tuple[int, int]:
        """Where a piece begins and how long it is. Raises IndexError."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        start = index * self.piece_bytes
        return start, min(self.piece_bytes, self.size - start)


def content_key(sha256: str) -> str:
    """Of a file whose digest is known: `sha256:` and 64 digits."""
    return f"sha256:{sha256.lower()}"


def is_content_key(key: str) -> bool:
    return key.startswith("sha256:")


def origin_key(url: str, validator: str, size: int) -> str:
    """Of a file that is known by where it is alone; `validator` is its ETag or its time."""
    told = f"{url}\n{validator}\n{size}".encode()
    return f"origin:{hashlib.sha256(told).hexdigest()}"


class PieceRefused(Exception):
    """A piece of the wrong length or digest; what was there before is unharmed."""


class PieceMissing(Exception):
    """The piece is not here, or its bytes on disk are no longer what they were."""


class PieceUnavailable(Exception):
    """A giver could not give this piece. Fit for an operator; `final`: nor any other, ever."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


class PieceStore(Protocol):
    """The pieces of one file that are here, of a download or of a file that is whole."""

    layout: Layout
    model: ModelId
    name: str
    """What the source calls the file."""
    verified: bool
    """It is whole, and had the SHA-256 that was declared for it."""
    doubted: frozenset[int]
    """Pieces that peers gave when the whole turned out to be wrong."""

    @property
    def have(self) -> bytes:
        """A bit a piece, the first piece in the highest bit of the first byte."""
        ...

    @property
    def have_count(self) -> int: ...

    def has(self, index: int) -> bool: ...

    def digest(self, index: int) -> bytes | None:
        """SHA-256 of a piece that is here, else None."""
        ...

    def giver(self, index: int) -> str:
        """Who gave a piece that is here: `ORIGIN`, or a peer's name; empty where not known."""
        ...

    async def read(self, index: int) -> bytes:
        """Checked against its digest. Raises PieceMissing."""
        ...

    async def write(self, index: int, data: bytes, giver: str) -> bool:
        """On disk when it returns; False where the piece was here already.

        Raises PieceRefused, and OSError where the disk would not take it.
        """
        ...

    async def drop(self, index: int) -> None:
        """Forget a piece that turned out to be wrong."""
        ...

    def observe(self, changed: Callable[[int], None]) -> AbstractContextManager[None]:
        """While the block lasts, called with each piece that came or was dropped; must not
        wait.
        """
        ...


class Giver(Protocol):
    """Somewhere pieces of one file come from: the origin, or a peer."""

    name: str
    """`ORIGIN`, or the peer's node id."""
    in_order: bool
    """Gives well only from the first piece upwards: an origin that knows no ranges."""

    async def fetch(self, index: int) -> bytes:
        """The whole piece, as long as the layout says.

        A giver retries by itself what is worth retrying, within a bound. Raises
        PieceUnavailable. Cancelling it is safe.
        """
        ...


@runtime_checkable
class Counting(Protocol):
    """An optional ability of a giver: that it gets on shows before a piece is whole."""

    bytes_seen: int
    """That arrived so far, of all its pieces."""


@runtime_checkable
class Local(Protocol):
    """An optional property of a giver: its bytes are on this machine's disk."""

    is_local: bool


@dataclass(frozen=True, slots=True)
class Take:
    """One piece to be fetched, and from whom."""

    index: int
    giver: Giver


class Picker(Protocol):
    """Decides for the lanes of one download. It is cancelled when all pieces are here."""

    lanes: int
    """How many pieces may be on their way at once."""

    async def next(self) -> Take:
        """For a lane that is free; waits while there is nothing to take.

        Raises PieceUnavailable when what is missing can be had from nobody: that ends the
        download, and what arrived stays.
        """
        ...

    def ended(self, take: Take, failure: PieceUnavailable | PieceRefused | None) -> None:
        """A take is over: None where the piece is in the store now. Must not wait."""
        ...


MakePicker: TypeAlias = Callable[[PieceStore, Giver | None], AbstractAsyncContextManager[Picker]]
"""For one download: the store knows what is missing, the giver is the origin where there is
one. At the block's end nothing of the picker is left."""


class PieceShelf(Protocol):
    """Every file of this neuron that has pieces to give, whole or on its way."""

    def find(self, key: str) -> PieceStore | None: ...

    def of_model(self, model: ModelId) -> tuple[PieceStore, ...]:
        """Its files in order; empty where the model came by no pull."""
        ...


class FindSize(Protocol):
    """How long a file is that only peers have; `peer:` sources are asked for it first."""

    async def __call__(self, model: ModelId, key: str) -> int:
        """Raises PieceUnavailable where no peer says."""
        ...


class Exchange(Protocol):
    """What exchanges pieces with other neurons, as pulls see it."""

    def picker(
        self, store: PieceStore, origin: Giver | None
    ) -> AbstractAsyncContextManager[Picker]:
        """`MakePicker`."""
        ...

    async def find_size(self, model: ModelId, key: str) -> int:
        """`FindSize`."""
        ...

    def share(self, model: ModelId, peers: tuple[PieceHolder, ...]) -> None:
        """From now on these neurons may be asked for pieces of this model, and may ask for them,
        and no others.
        """
        ...
