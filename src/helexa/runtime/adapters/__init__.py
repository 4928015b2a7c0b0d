"""The runtimes that this build knows: one file each, found by its name.

A file `NAME.py` in this folder exports `adapter`, and NAME is the word for it in
the configuration. Nothing is imported before somebody asks for it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import cast

from helexa.runtime.contract import Capabilities, ModelFiles, RuntimeAdapter

__all__ = ["AdapterUnknown", "adapter_for", "load", "names"]


class AdapterUnknown(Exception):
    """No file of that name in this folder."""


@functools.cache
def names() -> Sequence[str]:
    # Asked for every model of every announcement; the folder does not change while we run.
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__)))


def load(name: str) -> RuntimeAdapter:
    """Raises AdapterUnknown naming the known ones."""
    if name not in names():
        raise AdapterUnknown(f"no runtime named {name!r}; this build knows {', '.join(names())}")
    return cast("RuntimeAdapter", importlib.import_module(f"{__name__}.{name}").adapter)


def adapter_for(files: ModelFiles, name: str = "") -> tuple[RuntimeAdapter, Capabilities] | None:
    """The first runtime, by name, that says it can serve these files, and what it would offer.

    With a name that one alone is asked. Raises AdapterUnknown.
    """
    for each in (name,) if name else names():
        adapter = load(each)
        capabilities = adapter.serves(files)
        if capabilities is not None:
            return adapter, capabilities
    return None
