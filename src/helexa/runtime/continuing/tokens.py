"""The tokens that were drawn, out of the pieces in which their text was sent.

A piece is mostly one token's text, and read alone it is that token. What is divided - a
character among tokens, a token among pieces - shows by the text of the tokens; then the text
is read as a whole, which is how the model would read it in a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from helexa.protocol.errors import NotContinuable
from helexa.runtime.contract import Asking, ReplicaSpec, TokenizingAdapter, Tokens

_LOST = "\ufffd"
"""Bytes that are no character, as engines write them; which they were is lost."""


def drawn(
    pieces: Sequence[str], adapter: TokenizingAdapter, spec: ReplicaSpec
) -> Asking[list[list[int]]]:
    """For each piece its tokens; one list with all of them where pieces tell nothing.

    Raises NotContinuable where no tokens have this text.
    """
    text = "".join(pieces)
    if not text:
        return []
    if _LOST in text:
        raise NotContinuable("The tokens of what was delivered are not known.")
    found = yield from adapter.tokens_of_text(list(pieces), spec, special=False)
    if (by_piece := divided(pieces, found)) is not None:
        return by_piece
    # Some tokenizers put a space before a text.
    for read in (text, text.removeprefix(" ")):
        found = yield from adapter.tokens_of_text(read, spec, special=False)
        said = b"".join(found.pieces).decode("utf-8", "replace")
        if not found.pieces:
            said = yield from adapter.text_of(found.ids, spec)
        if said == text:
            return [list(found.ids)]
    raise NotContinuable("The tokens of what was delivered are not known.")


def divided(pieces: Sequence[str], found: Tokens) -> list[list[int]] | None:
    """The tokens by the pieces that they are the text of; None where the two do not fit."""
    if len(found.pieces) != len(found.ids):
        return None
    at, by_piece = 0, []
    for piece in pieces:
        wanted, said, begin = piece.encode(), b"", at
        while len(said) < len(wanted) and at < len(found.ids):
            said += found.pieces[at]
            at += 1
        if said != wanted:
            return None
        by_piece.append(list(found.ids[begin:at]))
    return by_piece if at == len(found.ids) else None
