"""Those who come without a key, where the operator serves them: each address is one.

The address is the socket's own: what a proxy in front says of another one could be anybody's
word.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from helexa.cortex.accounts.limits import Bounds, Rates
from helexa.cortex.gateway.seams import KeyGrant
from helexa.cortex.settings import LimitsSettings
from helexa.util.asgi import Scope
from helexa.util.patterns import Patterns

IPV6_BITS: Final = 64
"""What one household or one machine has; single addresses of it cost nothing."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """As a key is: who asks, as far as anybody knows."""

    key_id: str
    account: str
    bounds: Bounds


class Strangers:
    def __init__(self, settings: LimitsSettings) -> None:
        per_minute = settings.anonymous_requests_per_minute
        self._bounds = Bounds(
            key=Rates(
                per_minute / 60,
                max(int(per_minute), 1),
                settings.anonymous_tokens_per_minute,
                settings.anonymous_concurrent,
            ),
            models=(Patterns(settings.anonymous_models),) if settings.anonymous_models else (),
            output_tokens_max=settings.anonymous_output_tokens_max,
        )

    def grant(self, scope: Scope) -> Stranger:
        client = scope["client"]
        where = f"anonymous {_network(client[0] if client else '')}"
        return Stranger(where, where, self._bounds)

    def is_one(self, grant: KeyGrant) -> bool:
        return isinstance(grant, Stranger)


def strangers(settings: LimitsSettings) -> Strangers | None:
    """None where nobody is served without a key."""
    return Strangers(settings) if settings.anonymous else None


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), IPV6_BITS), strict=False))
    return address
