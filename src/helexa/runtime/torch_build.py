"""What the torch of an environment was built for, without loading it: it takes seconds to.

Its file `version.py` says so. The package index has builds for NVIDIA under the name that an
index of the makers has for processors, so a name or a version is no sure sign.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Final

_SAYS: Final = re.compile(r"^(cuda|hip)\b[^=\n]*=\s*(\S.*)$", re.MULTILINE)
_VENDORS: Final = {"cuda": "nvidia", "hip": "amd"}
_ANY: Final = ("nvidia", "amd")


@functools.cache
def vendors(python: Path | None = None) -> tuple[str, ...]:
    """Of the environment of this interpreter, None being ours.

    Where torch lies elsewhere it is taken to be built for what the machine has.
    """
    file = _own() if python is None else _beside(python)
    if file is None:
        return () if python is None else _ANY
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _ANY
    return tuple(
        _VENDORS[name] for name, value in _SAYS.findall(text) if value.strip() not in ("None", "''")
    )


def _own() -> Path | None:
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "version.py"


def _beside(python: Path) -> Path | None:
    # Not resolved: an environment's interpreter is a link, and its packages lie beside the link.
    folder = python.absolute().parent.parent
    return next(iter(sorted(folder.glob("lib/python3*/site-packages/torch/version.py"))), None)
