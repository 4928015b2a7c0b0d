"""What a name from somebody else may hold before it is shown to a person.

Names, regions and contacts of strangers end in terminals, logs and web pages.
Control characters could rewrite a terminal's lines, and marks that turn the
reading direction around make one name look like another.
"""

from __future__ import annotations

import re
from typing import Final

NAME_CHARS_MAX: Final = 64
REGION_CHARS_MAX: Final = 64
CONTACT_CHARS_MAX: Final = 200

# A list of our own and not `str.isprintable`: that one asks the Unicode tables of the
# Python at hand, and nodes with different ones have to agree on what a good record is.
_UNFIT: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\uffff\U000e0000-\U000e0fff]"
)


def is_plain(text: str, chars_max: int) -> bool:
    """Whether `text` is at most `chars_max` characters, none of which acts on its surroundings."""
    return len(text) <= chars_max and _UNFIT.search(text) is None


def plain(text: str, chars_max: int) -> str:
    """What of `text` may be shown: unfit characters become `?`, the rest is cut."""
    return _UNFIT.sub("?", text[:chars_max])
