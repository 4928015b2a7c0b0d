"""What the pieces of a file should hash to, by what members of the swarm say; pure.

A member says the digest of every piece that it has. What it took from the origin itself, or
verified as part of the whole, it attests: that is its own word. The rest it passes on. A piece
is proven when this neuron took it from the origin, or a neuron of its own operator verified
the whole file. In this order:

- A proven digest holds. Who attests another is a liar.
- Else what all attest alike. Who only passes on something else may be a victim.
- Else, with no attestation, what all pass on alike.
- Where attestations differ nothing is believed: the origin is asked, and that proves it. Where
  there is no origin, the larger camp is believed until the whole turns out to be wrong.

None of this makes the file right: its own SHA-256 does, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from helexa.neuron.exchange import bits
from helexa.protocol.ids import NodeId


@dataclass(slots=True)
class _Word:
    """Of one member."""

    digests: list[bytes | None]
    known: int = 0
    """Pieces with a digest."""
    first_hand: int = 0
    is_kin: bool = False


@dataclass(slots=True)
class Beliefs:
    """`guesses`: there is no origin to settle a dispute with."""

    count: int
    guesses: bool = False
    unsettled: int = 0
    """Pieces of which nothing is believed, because attestations differ."""
    _agreed: list[bytes | None] = field(init=False)
    _proven: list[bytes | None] = field(init=False)
    _conflicts: int = 0
    _words: dict[NodeId, _Word] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._agreed = [None] * self.count
        self._proven = [None] * self.count

    def hear(
        self, node: NodeId, digests: Mapping[int, bytes], first_hand: int, *, is_kin: bool = False
    ) -> bool:
        """False where the member attests what is proven to be wrong: it lies."""
        word = self._words.get(node)
        if word is None:
            word = self._words[node] = _Word([None] * self.count)
        news, word.first_hand, word.is_kin = first_hand & ~word.first_hand, first_hand, is_kin
        for index, digest in digests.items():
            agreed = self._agreed[index]
            if agreed is None:
                self._agreed[index] = digest
            # One object for equal digests: there may be a million of them.
            word.digests[index] = agreed if agreed == digest else digest
            if agreed not in (None, digest):
                self._conflicts |= 1 << index
        word.known |= bits.of(digests)
        self._judge(self._conflicts & (bits.of(digests) | news))
        own = first_hand & (bits.of(digests) | news)
        return not any(
            word.digests[index] not in (None, self._proven[index])
            for index in bits.each(own)
            if self._proven[index] is not None
        )

    def guess(self) -> None:
        """The origin cannot be asked any more."""
        self.guesses = True
        self._judge(self._conflicts)

    def forget(self, node: NodeId) -> None:
        """It says everything anew."""
        if self._words.pop(node, None) is not None:
            self._agree_anew()

    def prove(self, index: int, digest: bytes) -> tuple[NodeId, ...]:
        """From now on this is what the piece hashes to. Returns who attested another."""
        self._proven[index] = digest
        self._judge(1 << index)
        return tuple(
            node
            for node, word in self._words.items()
            if word.first_hand >> index & 1 and word.digests[index] not in (None, digest)
        )

    def expected(self, index: int) -> bytes | None:
        """None where nothing is known, or nothing is believed."""
        if (proven := self._proven[index]) is not None:
            return proven
        if not self._conflicts >> index & 1:
            return self._agreed[index]
        attested = self._camps(index, first_hand=True) or self._camps(index, first_hand=False)
        if len(attested) > 1 and not self.guesses:
            return None
        return max(attested, key=lambda digest: (len(attested[digest]), digest), default=None)

    def says(self, node: NodeId, index: int) -> bytes | None:
        word = self._words.get(node)
        return word.digests[index] if word else None

    def known_by(self, node: NodeId) -> int:
        """Pieces of which it says what they hash to."""
        word = self._words.get(node)
        return word.known if word else 0

    def attesters(self, index: int, digest: bytes) -> tuple[NodeId, ...]:
        return self._camps(index, first_hand=True).get(digest, ())

    def disputed(self) -> Iterator[tuple[int, bytes]]:
        """Where members differ: the piece, and what is believed of it all the same."""
        for index in bits.each(self._conflicts):
            if (digest := self.expected(index)) is not None:
                yield index, digest

    def whole_word(self, node: NodeId) -> list[bytes] | None:
        """All digests that a member says; None while some are not known."""
        word = self._words.get(node)
        found = [one for one in word.digests if one is not None] if word else []
        return found if len(found) == self.count else None

    def _camps(self, index: int, *, first_hand: bool) -> dict[bytes, tuple[NodeId, ...]]:
        words = [
            (node, word)
            for node, word in self._words.items()
            if word.digests[index] is not None and (not first_hand or word.first_hand >> index & 1)
        ]
        if first_hand and any(word.is_kin for _, word in words):
            words = [(node, word) for node, word in words if word.is_kin]
        camps: dict[bytes, tuple[NodeId, ...]] = {}
        for node, word in words:
            digest = word.digests[index]
            assert digest is not None
            camps[digest] = (*camps.get(digest, ()), node)
        return camps

    def _judge(self, pieces: int) -> None:
        for index in bits.each(pieces):
            believed = self.expected(index) is not None or not self._conflicts >> index & 1
            if believed:
                self.unsettled &= ~(1 << index)
            else:
                self.unsettled |= 1 << index

    def _agree_anew(self) -> None:
        self._conflicts = self.unsettled = 0
        self._agreed = [None] * self.count
        for word in self._words.values():
            for index, digest in enumerate(word.digests):
                if digest is None:
                    continue
                if self._agreed[index] is None:
                    self._agreed[index] = digest
                elif self._agreed[index] != digest:
                    self._conflicts |= 1 << index
        self._judge(self._conflicts)
