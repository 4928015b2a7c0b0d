"""The verbs that are clients of the control API, against a cortex that serves it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from tests.cortex.fleets import capability
from tests.cortex.whole import Whole, obedient, whole

from helexa.cli.entry import enter
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Drain,
    LoadModel,
    ProvisioningResponse,
    PullModel,
    Refused,
    RemoveModel,
    Wire,
)
from helexa.protocol.work import ModelState


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def live(home: Path) -> Iterator[Whole]:
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(whole(home / "cortex")) as running,
    ):
        yield running


@pytest.fixture
def helexa(
    live: Whole, home: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs a verb; its status and what it said."""

    def run(*argv: str) -> tuple[int, str, str]:
        status = enter([*argv, "--home", str(home)])
        said = capsys.readouterr()
        return status, said.out, said.err

    yield run
    live.neuron.answers = obedient
    live.neuron.asked.clear()


def test_nodes_are_listed_and_marked(live: Whole, helexa: Any) -> None:
    status, out, _ = helexa("nodes", "ls")
    head, row = out.splitlines()
    assert status == 0
    assert head.split()[:4] == ["NEURON", "ID", "STATE", "MARK"]
    assert row.split()[:3] == ["n1", live.neuron.node[:10], "present"]
    assert helexa("nodes", "cordon", "n1")[1] == "n1 is cordoned\n"
    assert helexa("nodes", "undrain", "n1")[1] == (
        "n1 is still cordoned; `helexa nodes uncordon n1` undoes that\n"
    )
    assert helexa("nodes", "uncordon", live.neuron.node[:12])[1].endswith("not marked any more\n")
    status, out, _ = helexa("nodes", "ls", "--json")
    assert json.loads(out)["nodes"][0]["node"] == live.neuron.node


def test_a_drain_tells_the_neuron_and_what_still_runs(live: Whole, helexa: Any) -> None:
    status, out, _ = helexa("nodes", "drain", "n1")
    assert (status, out) == (0, "n1 is drained, 1 request still running\n")
    assert Drain(enabled=True) in live.neuron.asked
    assert helexa("nodes", "undrain", "n1")[0] == 0
    assert Drain(enabled=False) in live.neuron.asked


def test_a_drain_that_waits_gives_up_when_it_was_told_to(helexa: Any) -> None:
    status, _, err = helexa("nodes", "drain", "n1", "--wait", "--within", "1s")
    assert status == 1
    assert "1 request still running on n1" in err
    assert "helexa: n1 still has 1 request after 1 s" in err
    helexa("nodes", "undrain", "n1")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("nodes drain nobody", 1, "No neuron is called 'nobody' here"),
        ("nodes drain", 2, "drain needs a node"),
        ("nodes ls n1", 2, "ls takes no node"),
        ("nodes cordon n1 --wait", 2, "--wait goes with drain"),
        ("nodes drain n1 --within 5s", 2, "--within goes with --wait"),
        ("nodes drain n1 --wait --within soon", 2, "'soon' is not a time"),
        ("models rm nothing", 1, "No model named 'nothing'"),
        ("models pull m", 1, "give a `source`"),
        ("models ls m", 2, "ls takes no model"),
        ("models ls --node a", 2, "it takes no --node"),
        ("models pull m --copies 0", 2, "--copies is 1 or more"),
        ("models pull m --source ftp://x", 1, "is not a source"),
        ("catalogue set a,b pin=true", 1, "cannot be the name of a model"),
        ("models load", 2, "load needs a model's name"),
        ("models load m --source x", 2, "--source goes with pull"),
        ("models rm m --detach", 2, "--detach goes with pull and load"),
        ("models rm m --node a --node b", 2, "rm takes one --node"),
        ("models pull m --copies 2 --node a", 2, "--node names them"),
        ("models pull m --cancel --pin", 2, "--cancel takes"),
        ("models pull m --on neuron", 2, "is asked of a cortex"),
        ("explain --model nope", 1, "No model named 'nope'"),
        ("catalogue show nope", 1, "The catalogue has no entry for 'nope'"),
        ("catalogue rm nope", 1, "The catalogue has no entry for 'nope'"),
        ("catalogue show", 2, "show needs an entry's id"),
        ("catalogue ls x", 2, "ls takes no entry's id"),
        ("catalogue rm x a=b", 2, "changes nothing"),
        ("catalogue set x a=b", 2, "an entry has no 'a'"),
        ("catalogue set x source=ftp://y", 1, "source"),
        ("catalogue ls --file x", 2, "--file goes with check"),
    ],
)
def test_what_cannot_be_is_one_line_and_a_status(
    helexa: Any, line: str, status: int, said: str
) -> None:
    found, _, err = helexa(*line.split())
    assert found == status
    assert said in err
    assert len(err.splitlines()) == 1


def test_models_are_listed_with_where_they_are(helexa: Any) -> None:
    status, out, _ = helexa("models", "ls")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert status == 0
    assert rows["MODEL"].split()[:4] == ["MODEL", "STATE", "REPLICAS", "CAN"]
    assert rows["m"].split()[:4] == ["m", "loaded", "1", "chat"]
    assert rows["comes"].split()[1] == "downloading"
    assert "n1" in rows["cold"]


def test_a_load_is_told_with_its_outcome(live: Whole, helexa: Any) -> None:
    assert helexa("models", "load", "cold") == (
        0,
        f"cold is loaded on {live.neuron.node[:10]}\n",
        "",
    )
    assert isinstance(live.neuron.asked[-1], LoadModel)
    live.neuron.answers = lambda _message: Refused(code="does_not_fit", message="Too big.")
    assert helexa("models", "load", "cold")[0::2] == (1, "helexa: Too big.\n")


def test_files_are_removed_and_pulls_are_ended(live: Whole, helexa: Any) -> None:
    assert "cold is removed" in helexa("models", "rm", "cold")[1]
    assert isinstance(live.neuron.asked[-1], RemoveModel)
    assert "comes is not pulled any more" in helexa("models", "pull", "comes", "--cancel")[1]


def pulls(message: Wire) -> Wire | None:
    if not isinstance(message, PullModel):
        return obedient(message)
    return ProvisioningResponse(
        command=message.command, model=message.model, state=ModelState.DOWNLOADING, final=False
    )


def test_a_pull_is_followed_to_its_end(live: Whole, helexa: Any) -> None:
    """The neuron says that it pulls, and a moment later that it has the model."""
    held = (capability(), capability("cold", ModelState.UNLOADED))
    live.neuron.answers = pulls
    live.neuron.then = [
        AnnounceCapabilities(capabilities=(*held, capability("new", ModelState.DOWNLOADING))),
        AnnounceCapabilities(capabilities=(*held, capability("new", ModelState.UNLOADED))),
    ]
    status, out, err = helexa("models", "pull", "new", "--source", "hf:a/b", "--node", "n1")
    assert (status, out) == (0, f"new is pulled on {live.neuron.node[:10]}\n")
    assert "n1  downloading" in err
    assert "n1  unloaded" in err


def test_a_pull_that_is_not_waited_for_says_how_it_began(live: Whole, helexa: Any) -> None:
    live.neuron.answers = pulls
    status, out, _ = helexa("models", "pull", "m", "--source", "hf:a/b", "--node", "n1", "--detach")
    assert (status, out) == (0, f"m is downloading on {live.neuron.node[:10]}\n")


def test_where_a_request_would_go_is_a_table(live: Whole, helexa: Any) -> None:
    status, out, _ = helexa("explain", "--model", "m")
    assert status == 0
    assert "policy" in out
    row = out.splitlines()[-1].split()
    assert row[:3] == ["1", "n1", "loaded"]
    status, out, _ = helexa("explain", "--model", "m", "--workload", "embedding")
    assert status == 1
    assert "nobody would be asked" in out
    assert json.loads(helexa("explain", "--model", "m", "--json")[1])["targets"]
    status, out, _ = helexa("explain", "--model", "m", "--policy", "min-quantisation=Q8_0")
    assert status == 1
    assert "has weights of unknown quantisation, under Q8_0" in out
    assert "has a part 'nonsense'" in helexa("explain", "--model", "m", "--policy", "nonsense")[2]


def test_the_catalogue_is_written_read_and_emptied(helexa: Any, tmp_path: Path) -> None:
    assert helexa("catalogue", "ls")[1].startswith("no entries")
    words = ("source=hf:a/b", "replicas_min=0", "aliases=fast:2", "labels=gpu=yes")
    assert helexa("catalogue", "set", "a/b", *words)[1] == "a/b is in the catalogue now\n"
    assert helexa("catalogue", "set", "a/b", "priority=7")[1] == "a/b is changed\n"
    head, row = helexa("catalogue", "ls")[1].splitlines()
    assert head.split()[:3] == ["MODEL", "SOURCE", "REPLICAS"]
    assert row.split()[:6] == ["a/b", "hf:a/b", "0..", "7", "fast", "gpu=yes"]
    shown = helexa("catalogue", "show", "a/b")[1]
    assert ["labels", "gpu=yes"] in [line.split() for line in shown.splitlines()]
    assert "made by call" in shown
    assert helexa("models", "import", "m")[1].startswith("m is in the catalogue now")
    assert helexa("catalogue", "rm", "m")[0] == 0
    assert helexa("catalogue", "reload")[0] == 0
    assert helexa("catalogue", "check") == (0, "nothing is wrong\n", "")
    file = tmp_path / "more.toml"
    file.write_text('[[models]]\nid = "x"\nfallbacks = ["nobody"]\n')
    status, out, _ = helexa("catalogue", "check", "--file", str(file))
    assert status == 1
    assert out.startswith("x: fallbacks[0]: ")
    file.write_text("[[models]")
    assert helexa("catalogue", "check", "--file", str(file))[0] == 1
    assert "out of the catalogue" in helexa("catalogue", "rm", "a/b")[1]
