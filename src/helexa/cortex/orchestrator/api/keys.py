"""API keys: made, listed without their secrets, revoked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from helexa.cortex.accounts.api_key import NAME_CHARS_MAX, NAME_PATTERN, ApiKey, KeyUnknown, NewKey
from helexa.cortex.orchestrator.api.calls import Asked, Call, Nothing, Wish

if TYPE_CHECKING:
    # For the type alone: the keys bring the database, see `helexa.cortex.accounts.keyring`.
    from helexa.cortex.accounts.keys import Keys


class CreateKey(Wish, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=NAME_PATTERN)]


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    keys: Sequence[ApiKey]


@dataclass(frozen=True, slots=True)
class KeyCalls:
    opened: Callable[[], Awaitable[Keys]]
    """Opens the database when first awaited."""

    async def all(self, asked: Asked[Nothing, Nothing]) -> KeyList:  # noqa: ARG002 - a call's shape
        return KeyList(keys=(await self.opened()).all())

    async def create(self, asked: Asked[Nothing, CreateKey]) -> NewKey:
        return (await self.opened()).create(asked.body.name)

    async def revoke(self, asked: Asked[Nothing, Nothing]) -> ApiKey:
        return (await self.opened()).revoke(asked.path["key"])

    def calls(self) -> list[Call]:
        return [
            Call("GET", "/api/v1/keys", "API keys, without their secrets.", self.all),
            Call(
                "POST", "/api/v1/keys", "A new key; its secret is shown only now.", self.create, 201
            ),
            Call(
                "DELETE",
                "/api/v1/keys/{key}",
                "Revoke a key by its id, its name, or the key itself.",
                self.revoke,
                refuses=(KeyUnknown,),
            ),
        ]
