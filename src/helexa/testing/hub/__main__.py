"""The hub as a process: every file of a folder, plain and in a repository of its own.

    python -m helexa.testing.hub FOLDER [--rate BYTES_PER_S] [--port N]

Prints one line of JSON when it serves: url, plain (name -> URL). A line on its input is
answered by one of JSON: bytes sent by file name. It ends when its input does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from helexa.testing.hub.server import Hub


async def serve(files: dict[str, Path], rate: float, port: int) -> None:
    async with Hub.running(port=port) as hub:
        hub.mood.rate_bytes_per_s = rate
        hub.plain.update(files)
        hub.repo("tests/all").commit(files)
        plain = {name: hub.plain_url(name) for name in files}
        say({"url": hub.url, "plain": plain})
        while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            say({"sent": hub.sent, "requests": len(hub.requests)})


def say(facts: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=math.inf)
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    files = {path.name: path for path in sorted(asked.folder.iterdir()) if path.is_file()}
    anyio.run(serve, files, asked.rate, asked.port)


if __name__ == "__main__":
    main()
