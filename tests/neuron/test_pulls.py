"""Pulls from a hub and a web server as they are asked for, go on, fail, and are gone again."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from tests.neuron.supplies import is_here, noise, supplied, tiny

from helexa.neuron.models.supply.records import Stage
from helexa.protocol.errors import RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState
from helexa.testing.hub import Fault, Hub

pytestmark = pytest.mark.anyio


async def test_a_repository_becomes_a_model_of_its_catalogue_name(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    async with Hub.running() as hub:
        hub.repo("org/tiny-GGUF").commit({"tiny-Q4_K_M.gguf": data, "README.md": b"read me"})
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("team/tiny", "hf:org/tiny-GGUF"))
            assert supply.listed == ["team/tiny"]
            assert (supply.folder / "team/tiny.gguf").read_bytes() == data
            assert hub.sent == {"tiny-Q4_K_M.gguf": len(data)}
            assert supply.leftovers() == []


async def test_many_who_ask_get_one_pull(tmp_path: Path) -> None:
    data = noise(3)
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        async with supplied(tmp_path / "models") as supply, anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(supply.pull, "w", hub.plain_url("w.gguf"))
        assert hub.sent["w.gguf"] == len(data) + 1, "and one byte to ask how long it is"


async def test_a_pull_that_goes_on_is_seen_as_that_and_not_as_missing(tmp_path: Path) -> None:
    async with Hub.running() as hub:
        hub.repo("org/big").commit({"big.gguf": noise(4)})
        hub.mood.faults.append(Fault(path="sig=", times=99, stall_after=1000))
        async with supplied(tmp_path / "models", hub.url) as supply:
            await supply.start("big", "hf:org/big", pin=True)
            await supply.until(lambda: supply.pulls.of_model(ModelId("big")))
            (told,) = supply.pulls.progress()
            assert told.progress.bytes_total == len(noise(4))
            said = supply.standing()["big"]
            assert said.state is ModelState.DOWNLOADING
            assert (said.source, said.pinned) == ("hf:org/big", True)
            assert (await supply.start("big", "hf:org/big", pin=False)) is True
            assert supply.standing()["big"].pinned is False
            with pytest.raises(RequestRejected, match="from elsewhere"):
                await supply.start("big", "hf:org/other")
            await supply.pulls.cancel(ModelId("big"))
            record = await supply.settled("big")
            assert record.stage is Stage.STOPPED
            assert supply.standing() == {}
