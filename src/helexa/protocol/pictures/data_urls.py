"""The bytes in a `data:` URL, read strictly: what one reader forgives, another reads otherwise."""

from __future__ import annotations

import binascii
import re
from typing import Final

from helexa.protocol.pictures.headers import NotAPicture

SCHEME: Final = "data:"
_PARAMETER: Final = r";[A-Za-z0-9!#$&^_.+-]+=[A-Za-z0-9!#$&^_.+-]*"
_HEAD: Final = re.compile(
    rf"data:image/(?:png|jpeg|jpg|webp|gif)(?:{_PARAMETER})*;base64,", re.IGNORECASE | re.ASCII
)
_PLAIN: Final = re.compile(r"data:image/(?:png|jpeg|jpg|webp|gif);base64,")
_HEAD_CHARS_MAX: Final = 200


def content_of(url: str, *, bytes_max: int) -> bytes:
    """Raises NotAPicture, also for one of more than `bytes_max`."""
    head = _HEAD.match(url, 0, _HEAD_CHARS_MAX)
    if head is None:
        raise NotAPicture("does not begin as `data:image/TYPE;base64,` with png, jpeg, webp or gif")
    # Four characters for three bytes: too long is known without reading it.
    if (len(url) - head.end()) // 4 * 3 - 2 > bytes_max:
        raise NotAPicture(f"has more than the {bytes_max} bytes that are accepted here")
    try:
        content = binascii.a2b_base64(url[head.end() :].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise NotAPicture("is not valid base64") from None
    # Strict does not count the padding.
    if len(url) - head.end() != -(-len(content) // 3) * 4:
        raise NotAPicture("is not valid base64")
    if len(content) > bytes_max:
        raise NotAPicture(f"has more than the {bytes_max} bytes that are accepted here")
    return content


def plain(url: str) -> str:
    """A URL that `content_of` reads, in small letters and without parameters: not every engine
    knows another way to write it.
    """
    if _PLAIN.match(url, 0, _HEAD_CHARS_MAX):
        return url
    head, _, content = url.partition(",")
    return f"{head.partition(';')[0].lower()};base64,{content}"


def url_of(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{binascii.b2a_base64(content, newline=False).decode()}"
