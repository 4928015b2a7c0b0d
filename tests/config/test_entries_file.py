"""The file of a cortex that runs: read again with the flags and variables of its start."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from helexa.config import load
from helexa.config.entries_file import EntriesFile
from helexa.cortex.app import running
from helexa.cortex.settings import MeshSettings
from helexa.util.sockets import Address

START = "[orchestrator]\nidle_timeout_s = 10\n[[models]]\nid = 'a'\n"


def source(file: Path, flags: dict[str, tuple[str, str]] | None = None) -> EntriesFile:
    home = {"home": ("--home", str(file.parent))}
    return EntriesFile(load({**home, **(flags or {})}, {}, file=file, roles=("cortex",)))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "helexa.toml"
    path.write_text(START)
    return path


def test_what_was_given_is_what_the_cortex_starts_with(file: Path) -> None:
    given = source(file).given()
    assert [entry.id for entry in given.entries] == ["a"]
    assert given.origins == (f"{file}:3",)
    assert given.orchestrator.idle_timeout_s == 10
    assert (given.problems, given.stale) == ((), ())


def test_a_change_is_read_and_the_look_of_the_file_with_it(file: Path) -> None:
    of_file = source(file)
    assert of_file.stamp() == of_file.given().stamp
    file.write_text(START + "\n[[models]]\nid = 'b'\n")
    assert of_file.stamp() != of_file.given().stamp
    now = of_file.read()
    assert [entry.id for entry in now.entries] == ["a", "b"]
    assert now.stamp == of_file.stamp()
    assert len(of_file.given().entries) == 1


def test_another_file_of_the_same_size_and_time_looks_different(file: Path) -> None:
    of_file = source(file)
    other = file.with_name("other")
    other.write_text(START.replace("'a'", "'b'"))
    times = file.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    before = of_file.stamp()
    other.replace(file)
    assert of_file.stamp() != before


def test_a_flag_goes_on_winning_over_the_file(file: Path) -> None:
    flag = {"orchestrator.idle_timeout_s": ("--set orchestrator.idle_timeout_s", "30")}
    of_file = source(file, flag)
    file.write_text("[orchestrator]\nidle_timeout_s = 50\nstay_s = 4\n")
    now = of_file.read()
    assert (now.orchestrator.idle_timeout_s, now.orchestrator.stay_s) == (30, 4)


def test_settings_that_need_a_restart_are_named_with_their_place(file: Path) -> None:
    of_file = source(file)
    file.write_text(
        "log_level = 'debug'\n[cortex]\nqueue_max = 3\n[neuron]\nslots = 2\n"
        "[orchestrator]\nprovision = false\nstay_s = 4\n[federation]\nhops_max = 0\n"
    )
    now = of_file.read()
    assert set(now.stale) == {
        f"{file}:1: log_level",
        f"{file}:3: cortex.queue_max",
        f"{file}:7: orchestrator.provision",
        f"{file}:10: federation.hops_max",
    }
    assert now.orchestrator.provision, "as it was at the start"
    assert now.orchestrator.stay_s == 4
    file.write_text(START)
    assert of_file.read().stale == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[models]]\nid = 'a'\nslots = 0", ":3: models[0] (a).slots: 0 is out of range"),
        ("[cortex]\nqueue_max = -1\n[[models]]\nid = 'b'", ":2: cortex.queue_max: -1 is out"),
        ("[[models]]\nid = 'a", ": is not TOML"),
        ("[mesh]\ntransports = []", ":2: mesh.transports: names no transport"),
    ],
)
def test_a_file_with_any_mistake_is_problems(file: Path, text: str, problem: str) -> None:
    of_file = source(file)
    file.write_text(text)
    (told,) = of_file.read().problems
    assert told.startswith(f"{file}{problem}")
    file.unlink()
    assert of_file.read().problems == (f"{file}: cannot be read: No such file or directory",)


def test_without_a_file_there_is_nothing_to_follow(tmp_path: Path) -> None:
    of_none = EntriesFile(load({"home": ("--home", str(tmp_path))}, {}, roles=("cortex",)))
    assert of_none.where == ""
    assert of_none.given().entries == ()
    assert of_none.read() == of_none.given()
    assert of_none.stamp() is None


@pytest.mark.anyio
async def test_a_running_cortex_follows_its_file_however_it_is_written(file: Path) -> None:
    config = load({"home": ("--home", str(file.parent))}, {}, file=file, roles=("cortex",))
    loopback = Address("127.0.0.1", 0)
    settings = config.cortex.__class__(
        home=config.cortex.home,
        mesh_socket=loopback,
        gateway_socket=loopback,
        mesh=MeshSettings(lan=False, transports=("tls",)),
        models=config.cortex.models,
    )
    events: list[str] = []
    happened = anyio.Event()

    def heard(event: object) -> None:
        nonlocal happened
        events.append(event["event"])  # type: ignore[index]
        happened.set()
        happened = anyio.Event()

    async def until(word: str) -> None:
        with anyio.fail_after(30):
            while word not in events:
                await happened.wait()
        events.clear()

    async with running(settings, events=heard, entries=EntriesFile(config)) as cortex:
        assert list(cortex.neurons.catalogue.entries) == ["a"]
        # In place, as some editors write.
        written(file, START + "[[models]]\nid = 'b'\naliases = ['chat']\n")
        cortex.book.reread()
        await until("catalogue_changed")
        assert list(cortex.neurons.catalogue.entries) == ["a", "b"]
        assert "chat" in cortex.neurons.catalogue.aliases
        # By rename, as others do; nobody asks.
        written(file.with_name("draft"), START.replace("'a'", "'c'")).rename(file)
        await until("catalogue_changed")
        assert list(cortex.neurons.catalogue.entries) == ["c"]
        # A broken one is told and changes nothing.
        written(file, "[[models]]\nid = 'c'\nslots = 0\n")
        cortex.book.reread()
        await until("catalogue_refused")
        assert list(cortex.neurons.catalogue.entries) == ["c"]
        assert "slots: 0 is out of range" in cortex.book.problems[0]
        cortex.book.put(config.cortex.models[0].__class__(id="made"))
    async with running(settings, entries=EntriesFile(config)) as cortex:
        assert list(cortex.neurons.catalogue.entries) == ["a", "made"]
