"""Scheduling policies, one file each: the folder is the registry, the file name is the word."""

from __future__ import annotations

import importlib
import pkgutil

from helexa.cortex.orchestrator.scheduler import Policy
from helexa.protocol.errors import RequestRejected


def names() -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def named(name: str) -> Policy:
    """Raises RequestRejected that lists the policies there are."""
    if name not in names():
        raise RequestRejected(f"There is no policy {name!r}; there are: {', '.join(names())}.")
    policy: Policy = importlib.import_module(f"{__name__}.{name}").policy
    return policy
