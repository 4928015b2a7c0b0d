"""API keys and accounts: made, listed without their secrets, limited, revoked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from helexa.cortex.accounts.api_key import (
    ACCOUNT_PATTERN,
    NAME_CHARS_MAX,
    NAME_PATTERN,
    AccountShown,
    ApiKey,
    KeyUnknown,
    NewKey,
)
from helexa.cortex.accounts.limits import NO_LIMITS, Limits
from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish

if TYPE_CHECKING:
    # For the type alone: the keys bring the database, see `helexa.cortex.accounts.keyring`.
    from helexa.cortex.accounts.keys import Keys

DEFAULT_ACCOUNT: Final = "default"
Unset = Annotated[
    tuple[
        Literal[
            "requests_per_s",
            "requests_burst",
            "tokens_per_minute",
            "concurrent",
            "models",
            "prompt_tokens_max",
            "output_tokens_max",
            "priority",
            "weight",
        ],
        ...,
    ],
    Meta(max_length=16),
]
Expiry = Annotated[int, Meta(ge=1, le=253_402_300_799)]


class CreateKey(Wish, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=NAME_PATTERN)]
    account: Annotated[str, Meta(pattern=ACCOUNT_PATTERN)] = DEFAULT_ACCOUNT
    limits: Limits = NO_LIMITS
    expires_at: Expiry | None = None
    """UTC seconds since 1970."""


class ChangeKey(Wish, frozen=True, kw_only=True):
    """What is not named stays as it is."""

    limits: Limits = NO_LIMITS
    unset: Unset = ()
    """Limits that its account, or the configuration, is to decide again."""
    expires_at: Expiry | None = None
    unset_expiry: bool = False


class ChangeAccount(Wish, frozen=True, kw_only=True):
    """What is not named stays as it is."""

    limits: Limits = NO_LIMITS
    unset: Unset = ()


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    keys: Sequence[ApiKey]


class AccountList(msgspec.Struct, frozen=True, kw_only=True):
    accounts: Sequence[AccountShown]


@dataclass(frozen=True, slots=True)
class KeyCalls:
    opened: Callable[[], Awaitable[Keys]]
    """Opens the database when first awaited."""

    async def all(self, asked: Asked[Nothing, Nothing]) -> KeyList:  # noqa: ARG002 - a call's shape
        return KeyList(keys=(await self.opened()).all())

    async def create(self, asked: Asked[Nothing, CreateKey]) -> NewKey:
        body = asked.body
        return (await self.opened()).create(
            body.name, account=body.account, limits=body.limits, expires_at=body.expires_at
        )

    async def change(self, asked: Asked[Nothing, ChangeKey]) -> ApiKey:
        body = asked.body
        unset = (*body.unset, *(("expires_at",) if body.unset_expiry else ()))
        return (await self.opened()).change(
            asked.path["key"], body.limits, unset=unset, expires_at=body.expires_at
        )

    async def revoke(self, asked: Asked[Nothing, Nothing]) -> ApiKey:
        return (await self.opened()).revoke(asked.path["key"])

    async def accounts(self, asked: Asked[Nothing, Nothing]) -> AccountList:  # noqa: ARG002
        return AccountList(accounts=(await self.opened()).accounts())

    async def change_account(self, asked: Asked[Nothing, ChangeAccount]) -> AccountShown:
        body = asked.body
        return (await self.opened()).change_account(asked.path["account"], body.limits, body.unset)

    def calls(self) -> list[Call]:
        return [
            Call("GET", "/api/v1/keys", "API keys, without their secrets.", self.all),
            Call(
                "POST", "/api/v1/keys", "A new key; its secret is shown only now.", self.create, 201
            ),
            Call(
                "PATCH",
                "/api/v1/keys/{key}",
                "Change what a key may ask for; it holds for the next request.",
                self.change,
                refuses=(KeyUnknown,),
            ),
            Call(
                "DELETE",
                "/api/v1/keys/{key}",
                "Revoke a key by its id, its name, or the key itself.",
                self.revoke,
                refuses=(KeyUnknown,),
            ),
            Call("GET", "/api/v1/accounts", "Accounts and their limits.", self.accounts),
            Call(
                "PATCH",
                "/api/v1/accounts/{account}",
                "Change what all keys of an account may ask for together.",
                self.change_account,
            ),
        ]
