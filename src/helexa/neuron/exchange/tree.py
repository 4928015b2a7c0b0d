r"""One digest for all pieces of a file: equal where the files are equal, piece for piece.

It is defined as

    SHA-256("helexa pieces 1\n" || size || piece_bytes || digest_0 || ... || digest_n-1)

where the first part is those 16 bytes of ASCII, `size` of the file and `piece_bytes` are
unsigned 64-bit integers in big-endian order, and `digest_i` is the SHA-256 (32 bytes) of
piece i as `Layout` cuts the file, the last one shorter. The first part keeps it apart from
the digest of any file, the sizes from that of another cut. A file of no bytes has no pieces.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from helexa.neuron.models.supply.piece import Layout

_DOMAIN: Final = b"helexa pieces 1\n"


def tree(layout: Layout, digests: Iterable[bytes]) -> bytes:
    made = hashlib.sha256(_DOMAIN)
    made.update(struct.pack(">QQ", layout.size, layout.piece_bytes))
    for digest in digests:
        made.update(digest)
    return made.digest()
