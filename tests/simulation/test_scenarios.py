"""Every trouble that a mesh is put into, small and from fixed seeds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helexa.testing.simulation.network import Network
from helexa.testing.simulation.scenarios import SCENARIOS
from helexa.testing.simulation.world import World

SEED = 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_mesh_stands_when(name):
    """What must hold is asserted inside; `make sim SEED=n` tries others."""
    SCENARIOS[name](SEED)


def a_troubled_run(seed):
    world = World(seed, network=Network(loss=0.1, duplicates=0.05), traced=True)
    world.add(30)
    world.join()
    world.run(20.0)
    world.kill(world.nodes[3])
    world.stall(world.nodes[4], 3.0)
    world.split(world.nodes[:8])
    world.run(30.0)
    world.heal()
    world.run(20.0)
    return world.trace


def test_the_same_seed_gives_the_same_run_to_the_last_message():
    assert a_troubled_run(5) == a_troubled_run(5)


def test_another_seed_gives_another_run():
    assert a_troubled_run(5) != a_troubled_run(6)


def test_another_process_with_other_hashes_gives_the_same_run():
    """Iterating a set anywhere would show here."""
    where = "tests.simulation.test_scenarios"
    code = f"from {where} import a_troubled_run; print(a_troubled_run({SEED}))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hashes in ("1", "2")
    }
    assert runs == {a_troubled_run(SEED)}


def test_a_failure_names_the_seed_that_shows_it_again(monkeypatch, capsys):
    from helexa.testing.simulation import __main__ as program

    def fails(seed):
        raise AssertionError("as it should")

    monkeypatch.setitem(program.SCENARIOS, "some_die", fails)
    monkeypatch.setattr(sys, "argv", ["simulation", "--seed", "41", "--only", "some_die"])
    monkeypatch.setattr(program.gc, "disable", lambda: None)
    assert program.main() == 1
    said = capsys.readouterr()
    assert "make sim SEED=41" in said.out
    assert "as it should" in said.out
