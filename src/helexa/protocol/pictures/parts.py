"""Parts of messages that no neuron could take, told before any is asked to load a model for them.

Sizes and numbers are left out: each neuron has bounds of its own.
"""

from __future__ import annotations

from typing import Final

from helexa.protocol.errors import BodyMalformed, PictureRefused
from helexa.protocol.pictures import data_urls
from helexa.protocol.pictures.headers import NotAPicture, looked_at
from helexa.protocol.pictures.places import Place, parts, refused

TYPES: Final = (
    "text", "image_url", "input_audio", "refusal", "file", "video_url", "audio_url", "thinking",
    "reasoning", "input_text", "output_text", "input_image", "image_embeds", "tool_reference",
)  # fmt: skip
"""That some engine or server reads."""
_ELSEWHERE: Final = ("http://", "https://")
_SCHEME_CHARS_MAX: Final = 8


def may_have_parts(body: bytes) -> bool:
    """Quick, also where the body is large: whether some message's content may be a list.

    Such a list stands inside that of the messages, and one byte is looked for far faster
    than a word.
    """
    return body.find(b"[", body.find(b"[") + 1) > 0


def may_be_wrong(body: bytes) -> bool:
    """Quick: every part has it. What hides behind an escape is found by the neuron."""
    # A part that stands in no list is wrong, too. `rfind` is several times as fast as `in`.
    return body.rfind(b'"type"') >= 0


def check(body: bytes) -> None:
    """Raises BodyMalformed or PictureRefused."""
    for message, at, part in parts(body):
        if part.type not in TYPES:
            field = f"messages[{message}].content[{at}].type"
            raise BodyMalformed(
                reason=f"`{field}` is {part.type[:40]!r}, which is no type of a part.", field=field
            )
        if part.image_url is not None:
            _check(Place(message, at, part.image_url.url))


def _check(place: Place) -> None:
    start = place.url[:_SCHEME_CHARS_MAX].lower()
    if start.startswith(_ELSEWHERE):
        return
    if not start.startswith(data_urls.SCHEME):
        raise PictureRefused(
            reason=f"`{place.field}` is no URL that a picture can have; send a `data:` URL.",
            field=place.field,
        )
    try:
        looked_at(data_urls.content_of(place.url, bytes_max=len(place.url)))
    except NotAPicture as error:
        raise refused(place, error) from error
