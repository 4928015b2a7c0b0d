"""One file per transport; its name is the word used in settings and tickets.

A file `NAME.py` exports `open_transport`. `_` files are parts of one. Nothing is
imported before somebody asks for it: iroh's bindings alone are 10 MB of memory, and
there are machines for which nobody builds them.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    # The settings' catalogue asks for `names` at every command; it needs no keys and links.
    from helexa.mesh.transport import OpenTransport
    from helexa.util.sockets import Address

__all__ = ["TransportUnusable", "load", "load_all", "names", "worth_opening"]

log = logging.getLogger(__name__)

_WITHIN_A_PROCESS: Final = frozenset({"memory"})
"""Opened on a `MemoryNetwork` that a test made; no node can be told to."""


class TransportUnusable(Exception):
    """No transport of that name here, or this machine lacks what it stands on. Says which."""


def names() -> Sequence[str]:
    """The words that `load` takes, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(
        name for name in found if not name.startswith("_") and name not in _WITHIN_A_PROCESS
    )


def worth_opening(wanted: Sequence[str], bind: Address) -> Sequence[str]:
    """Of a list of defaults, what a node needs that listens on `bind`.

    On loopback the first alone: every peer is on this machine, and hole punching
    and relays, which cost 16 MB here, are for those that are not.
    """
    return wanted[:1] if bind.is_loopback else wanted


def load(name: str) -> OpenTransport:
    """What opens the transport `name`. Imports it, which takes up to half a second.

    Raises TransportUnusable.
    """
    if name not in names():
        raise TransportUnusable(
            f"there is no transport {name!r}; this build has {', '.join(names())}"
        )
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    # OSError: the bindings load their library themselves, and this machine has none that fits.
    except (ImportError, OSError) as error:
        raise TransportUnusable(
            f"the transport {name!r} cannot be used on this machine: {error}"
        ) from error
    return cast("OpenTransport", module.open_transport)


def load_all(wanted: Sequence[str], *, each: bool) -> Mapping[str, OpenTransport]:
    """What opens each of `wanted`, in that order.

    `each` is true when an operator asked for these by name: one that cannot be used
    is then refused. In a list of defaults it is logged and left out, as long as
    another can be. Raises TransportUnusable.
    """
    loaded: dict[str, OpenTransport] = {}
    reasons = []
    for name in wanted:
        try:
            loaded[name] = load(name)
        except TransportUnusable as error:
            if each:
                raise
            reasons.append(str(error))
            log.warning("%s; this node goes on without it", error)
    if not loaded:
        raise TransportUnusable("; ".join(reasons) or "no transport was asked for")
    return loaded
