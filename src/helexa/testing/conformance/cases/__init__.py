"""The cases, grouped by what they are about; a file of this folder is found by being there."""

from __future__ import annotations

import importlib
import pkgutil


def load_all() -> None:
    """Each file registers its cases as it is imported."""
    for found in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{found}")
