"""The federation settings of a cortex that runs: what holds now, and changing it without a restart.

The layers of configuration lie above this package, so what reads values and
remembers their origins comes in from there (`helexa.config.federation`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec

from helexa.cortex.settings import FederationSettings
from helexa.protocol.errors import RequestRejected


class LivePolicy(Protocol):
    @property
    def settings(self) -> FederationSettings:
        """What holds now, run-time changes included."""
        ...

    def shown(self) -> Mapping[str, Mapping[str, Any]]:
        """By name of the setting: `value`, `origin` and `accepted`, as JSON can hold them."""
        ...

    def change(self, changes: Mapping[str, Any], unset: Collection[str]) -> FederationSettings:
        """Set some, return others to what the configuration says; all of it or nothing.

        A value may be the setting's own type or the text of a flag. What was changed is on
        disk when this returns. Raises RequestRejected naming the setting and the range.
        """
        ...


class FixedPolicy:
    """Settings that stay as they were given: for a cortex that is started without a store."""

    def __init__(self, settings: FederationSettings) -> None:
        self.settings = settings

    def shown(self) -> Mapping[str, Mapping[str, Any]]:
        values = msgspec.to_builtins(self.settings)
        return {
            name: {"value": value, "origin": "fixed", "accepted": ""}
            for name, value in values.items()
        }

    def change(
        self,
        changes: Mapping[str, Any],  # noqa: ARG002 - the seam's signature
        unset: Collection[str],  # noqa: ARG002
    ) -> FederationSettings:
        raise RequestRejected("This cortex was started with a policy that cannot be changed.")
