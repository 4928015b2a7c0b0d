"""The bytes that a token stands for. Pure: the tokenizer's own spelling of it comes in.

Byte-level tokenizers spell each byte as a character of their own; those of SentencePiece spell a
space as a lower block, and a byte that is no character by its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SPACE = "\u2581"
_NUMBER = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_letters() -> Mapping[str, int]:
    """GPT-2's spelling: bytes that print are themselves, the others follow one another from 256."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in prints]
    letters = {chr(byte): byte for byte in prints}
    letters.update({chr(256 + at): byte for at, byte in enumerate(rest)})
    return letters


_LETTERS = byte_letters()


def bytes_of(spelt: str, *, by_bytes: bool, is_added: bool) -> bytes:
    """`is_added` is a token that was added to the vocabulary, which is spelt as it is."""
    if is_added:
        return spelt.encode()
    if by_bytes:
        try:
            return bytes(_LETTERS[letter] for letter in spelt)
        except KeyError:
            return spelt.encode()
    if number := _NUMBER.fullmatch(spelt):
        return bytes([int(number[1], 16)])
    return spelt.replace(_SPACE, " ").encode()
