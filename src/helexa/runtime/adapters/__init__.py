"""The runtimes that this build knows: one file each, found by its name.

A file `NAME.py` in this folder exports `adapter`, and NAME is the word for it in
the configuration. Nothing is imported before somebody asks for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Collection, Sequence
from typing import Final, cast

from helexa.runtime.contract import Capabilities, ModelFiles, PackagedAdapter, RuntimeAdapter

__all__ = ["ORDER", "AdapterUnknown", "adapter_for", "in_order", "is_installed", "load", "names"]

ORDER: Final = ("openai_compatible", "llama_cpp", "vllm", "mistral_rs", "transformers")
"""Who is asked first: what was set up for a model, then by what most machines get most from."""


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


def is_installed(adapter: RuntimeAdapter, elsewhere: Collection[str] = ()) -> bool:
    """`elsewhere` are the runtimes that the operator said where to find."""
    if adapter.name in elsewhere or not isinstance(adapter, PackagedAdapter):
        return True
    return _is_here(adapter.requirement.module)


@functools.cache
def _is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def in_order(first: Sequence[str] = ()) -> Sequence[str]:
    """All names: `first`, then those of `ORDER`, then the others."""
    known = names()
    return [name for name in dict.fromkeys((*first, *ORDER, *known)) if name in known]


def adapter_for(
    files: ModelFiles, name: str = "", *, order: Sequence[str] = (), elsewhere: Collection[str] = ()
) -> tuple[RuntimeAdapter, Capabilities] | None:
    """The first runtime in order that is installed and serves these files, and what it would offer.

    Where none that serves them is installed, the first that would: its load says what to install.
    With a name that one alone is asked. Raises AdapterUnknown.
    """
    found: tuple[RuntimeAdapter, Capabilities] | None = None
    for each in (name,) if name else in_order(order):
        adapter = load(each)
        capabilities = adapter.serves(files)
        if capabilities is None:
            continue
        if is_installed(adapter, elsewhere):
            return adapter, capabilities
        found = found or (adapter, capabilities)
    return found
