"""Starts a child whose engine is a Python package: `PYTHON -I .../children/__main__.py NAME JSON`.

NAME is a file of this folder, or a path to one elsewhere, that exports `engine(wanted)`;
see `server.engine`. PYTHON may be any interpreter that has the engine: helexa need not be
installed there. So these files call one another by relative names alone, and the folder
is made a package here instead of being put on the path, where `transformers.py` would
stand before the package of that name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

_PACKAGE = "helexa_children"
_LINE_CHARS_MAX = 2000


def _package() -> None:
    package = types.ModuleType(_PACKAGE)
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules[_PACKAGE] = package


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(f"{_PACKAGE}.{name}")
    spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{Path(name).stem}", name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    _package()
    name, wanted = sys.argv[1], json.loads(sys.argv[2])
    serve = importlib.import_module(f"{_PACKAGE}.server.serve")
    try:
        serve.run(_module(name).engine(wanted), wanted)
    except serve.Unloadable as error:
        said = " ".join(str(error).split())[:_LINE_CHARS_MAX]
        sys.exit(f"{Path(name).stem} did not start: {said}")


if __name__ == "__main__":
    main()
