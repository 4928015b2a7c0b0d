"""An API key as it is shown: apart from the database, which those who only show it do without."""

from __future__ import annotations

from typing import Final

import msgspec

from helexa.cortex.accounts.limits import NO_LIMITS, Limits
from helexa.protocol.errors import RequestRejected

NAME_CHARS_MAX: Final = 100
_UNSEEN: Final = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff"
"""Controls, line breaks, and what turns or hides text: a name is shown in tables."""
NAME_PATTERN: Final = rf"^[^{_UNSEEN}]*[^\s{_UNSEEN}][^{_UNSEEN}]*$(?!\n)"


ACCOUNT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$(?!\n)"
"""An account's name: it stands in paths and in tables."""


class KeyUnknown(RequestRejected):
    status, code = 404, "key_not_found"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown. Times are UTC seconds since 1970."""

    id: str
    name: str
    hint: str
    account: str
    created_at: int
    revoked_at: int | None = None
    expires_at: int | None = None
    """From then on it is refused; null: never."""
    limits: Limits = NO_LIMITS
    """What it says for itself."""


class AccountShown(msgspec.Struct, frozen=True, kw_only=True):
    """An account that says something, or that keys name."""

    name: str
    keys: int
    """That may be used."""
    limits: Limits = NO_LIMITS


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """The only time that the secret is seen."""

    key: ApiKey
    secret: str
