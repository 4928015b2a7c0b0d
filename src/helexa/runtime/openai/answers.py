"""What an engine answered to a question of an adapter's, read by its type."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from helexa.protocol.errors import RuntimeMalformed

T = TypeVar("T")


def read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Raises RuntimeMalformed."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed(reason="The runtime answered something else than asked.") from error
