"""A process that pulls one model and says how far it is; the tests kill it.

    python -m tests.neuron.pulling FOLDER SOURCE MODEL PIECES

Prints `found` and `pieces` once so many are verified, and `here` at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from tests.neuron.supplies import supplied

from helexa.protocol.ids import ModelId


async def main(folder: Path, source: str, model: str, pieces: int) -> None:
    async with supplied(folder, pull_connections=2) as supply:
        if source != "nothing":
            await supply.start(model, source)
        (store,) = await supply.until(lambda: supply.pulls.of_model(ModelId(model)))
        enough = anyio.Event()

        def look(_index: int) -> None:
            if store.have_count >= pieces:
                enough.set()

        with store.observe(look):
            look(0)
            await enough.wait()
        print("pieces", flush=True)
        await supply.settled(model)
        print("here", flush=True)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
