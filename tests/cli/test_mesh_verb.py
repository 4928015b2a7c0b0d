"""`helexa mesh` against the real control API, behind which a scripted mesh answers."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio.from_thread
import msgspec
import pytest
from tests.cortex.scripted_mesh import BEN, CAS, ME, NEW, OF_BEN, ScriptedMesh

from helexa.cli import mesh_tables, mesh_wait
from helexa.cli.entry import enter
from helexa.cli.verb import Failed
from helexa.config import load
from helexa.config.federation import FederationStore
from helexa.cortex.accounts.keyring import keyring
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.mesh_control import InviteWish, PeerRow
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.protocol.errors import http_refusal
from helexa.util.http_server import ServerLimits, serving
from helexa.util.sockets import Address, listen_tcp

TOKEN = "hx_admin_of_this_test"


@pytest.fixture
def mesh(tmp_path: Path) -> ScriptedMesh:
    return ScriptedMesh(FederationStore.of(load({"home": ("--home", str(tmp_path))}, {})))


@pytest.fixture
def home(tmp_path: Path, mesh: ScriptedMesh) -> Iterator[Path]:
    """A home whose cortex "runs" as this very process."""
    folder = tmp_path / "cortex"
    folder.mkdir()
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(1, 4),
        name="",
        monotonic=time.monotonic,
        random=random.random,
    )
    with keyring(folder) as keys, anyio.from_thread.start_blocking_portal() as portal:
        app = application(
            admin_token=TOKEN,
            neurons=neurons,
            keys=keys.opened,
            status=lambda: {"node_id": ME},
            mesh=mesh,
        )
        listener = listen_tcp(Address("127.0.0.1", 0))
        served = serving(
            app,
            [listener],
            ServerLimits(
                header_bytes_max=65536, header_timeout_s=20, write_stall_s=20, connections_max=64
            ),
            error_body=http_refusal,
            shutdown_grace_s=1,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with portal.wrap_async_context_manager(served):
            facts = {"pid": os.getpid(), "orchestrator_url": url}
            (folder / "run.json").write_text(json.dumps(facts))
            (folder / "admin.token").write_text(TOKEN)
            yield tmp_path


@dataclass
class Said:
    status: int
    out: str
    err: str
    json: dict = field(default_factory=dict)


@pytest.fixture
def helexa(home: Path, capsys: pytest.CaptureFixture[str]):
    def run(*argv: str) -> Said:
        status = enter(["mesh", *argv, "--home", str(home)])
        told = capsys.readouterr()
        return Said(status, told.out, told.err, json.loads(told.out) if "--json" in argv else {})

    return run


def test_status_says_where_this_cortex_stands(helexa) -> None:
    said = helexa("status")
    assert said.status == 0
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert rows["node"] == ME
    assert rows["members"] == "1 alive, 1 dead"
    assert rows["rejected"] == "3 signature"
    assert rows["traffic"] == "2.0 KiB sent (10 B/s)"
    assert rows["admission"] == "open; neurons lan"
    assert "helexa mesh pending" in rows["pending"]
    assert "clock" not in rows
    assert helexa("status", "--json").json["node"] == ME


def test_a_clock_that_is_off_is_said_with_its_remedy() -> None:
    told = mesh_tables.status({"node": ME, "clock_off_s": -75.0})
    assert "1m 15s behind most others; set it" in told


def test_peers_are_a_table_of_what_an_operator_asks_first(helexa, mesh: ScriptedMesh) -> None:
    head, ben, cas = helexa("peers").out.splitlines()
    assert head.split() == [
        "PEER",
        "ID",
        "OPERATOR",
        "TRUST",
        "STATE",
        "FOR",
        "LINK",
        "RTT",
        "REGION",
        "MODELS",
    ]
    assert ben.split()[:5] == ["ben", BEN[:12], "ben", "trusted", "alive"]
    assert "1m 15s" in ben
    assert ben.endswith("ben-chat, ben-embed")
    assert "itself" in cas
    assert [one["node"] for one in helexa("peers", "--json").json["peers"]] == [BEN, CAS]
    mesh.peer_rows = []
    assert helexa("peers").out == (
        "no peers; `helexa mesh join TICKET` with the ticket of another cortex\n"
    )


def test_waiting_for_peers_and_what_they_offer_ends_when_they_are_there(helexa) -> None:
    assert helexa("peers", "--wait", "1", "--wait-offers", "ben-chat").status == 0


def test_a_model_that_is_kept_back_stands_in_brackets_and_can_be_waited_for(
    helexa, mesh: ScriptedMesh
) -> None:
    ben, cas = mesh.peer_rows
    mesh.peer_rows = [msgspec.structs.replace(ben, withheld=("ben-secret",)), cas]
    assert helexa("peers").out.splitlines()[1].endswith("ben-chat, ben-embed, (ben-secret)")
    assert helexa("peers", "--wait-has", "ben-secret").status == 0
    assert helexa("peers", "--wait-has", "ben-chat").status == 0


def test_waiting_for_what_never_comes_ends_in_words(
    helexa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_wait, "WAIT_S", 0)
    said = helexa("peers", "--wait-offers", "cas-chat")
    assert said.status == 1
    assert said.err == (
        "helexa: fewer than 1 peers alive, one of them offering cas-chat after 0 s\n"
    )
    said = helexa("peers", "--wait-has", "cas-chat")
    assert said.err == "helexa: fewer than 1 peers alive, one of them with cas-chat after 0 s\n"


def test_a_step_of_a_join_is_told_when_it_ends_with_what_to_try(helexa, mesh: ScriptedMesh) -> None:
    said = helexa("join", "helexaabc")
    assert said.status == 1
    assert said.out.splitlines() == [
        "ok    read the ticket (1 ms)",
        "FAIL  reach it by tls: no answer from 192.0.2.7:9050 (3.0 s)",
        "      try: open TCP port 9050 in the firewall",
    ]
    assert said.err == "helexa: not joined\n"
    mesh.joined = True
    said = helexa("join", "helexaabc")
    assert said.status == 0
    assert said.out.splitlines()[-1].startswith("joined")
    report = helexa("join", "helexaabc", "--json")
    assert (report.status, report.json["joined"], len(report.json["steps"])) == (0, True, 2)


def test_a_word_that_is_no_ticket_is_one_line(helexa) -> None:
    said = helexa("join", "nonsense")
    assert (said.status, said.out, said.err) == (1, "", "helexa: That is no ticket.\n")


def test_leaving_says_for_how_long(helexa, mesh: ScriptedMesh) -> None:
    assert "until `helexa mesh join`" in helexa("leave").out
    assert mesh.asked == [("leave",)]


def test_a_ticket_is_a_word_for_a_command_substitution(helexa, mesh: ScriptedMesh) -> None:
    assert helexa("ticket") == Said(0, "helexaticket\n", "")
    flags = ["--uses", "3", "--expires", "7d", "--role", "neuron", "--trust", "trusted"]
    said = helexa("ticket", "--invite", *flags)
    assert said.out == "helexaguest\n"
    assert "whoever holds it, 3 time(s), for 7d 0h: a secret" in said.err
    invite = InviteWish(uses=3, expires_s=604_800, role="neuron", trust="trusted")
    assert mesh.asked == [("ticket", None), ("ticket", invite)]
    assert helexa("ticket", "--invite", "--json").json == {"ticket": "helexaguest"}


def test_a_ping_says_how_far_and_by_what(helexa) -> None:
    assert helexa("ping", "ben").out == ("ben answered in 1.2 ms by tls, after a dial of 12.5 ms\n")
    said = helexa("ping", "cas")
    assert said.status == 1
    assert said.err.startswith("helexa: ")
    assert helexa("ping", "nobody").err == (
        "helexa: Nobody known here is called 'nobody'; `helexa mesh peers` lists them.\n"
    )


def test_who_waits_is_approved_or_denied(helexa, mesh: ScriptedMesh) -> None:
    head, row = helexa("pending").out.splitlines()
    assert head.split()[:5] == ["NAME", "ID", "OPERATOR", "ROLE", "ADDRESS"]
    assert "1m 30s ago" in row
    assert helexa("approve", "new").out == f"{NEW} is known\n"
    assert helexa("approve", NEW[:12], "--trust", "trusted").out == f"{NEW} is trusted\n"
    assert helexa("deny", "new").out == f"{NEW} is denied; 1 link(s) ended\n"
    assert helexa("deny", "new", "--json").json["closed"] == 1
    mesh.pending_rows = []
    assert helexa("pending").out == "nobody waits to be let in\n"


def test_trust_is_given_lowered_and_forgotten(helexa, mesh: ScriptedMesh) -> None:
    assert helexa("trust", "ben").out == f"{OF_BEN} is trusted\n"
    assert helexa("trust", "ben", "known").out == f"{OF_BEN} is known\n"
    assert helexa("forget", OF_BEN[:16]).out == f"{OF_BEN} is stranger\n"
    assert mesh.asked == [
        ("trust", OF_BEN, "trusted"),
        ("trust", OF_BEN, "known"),
        ("forget", OF_BEN),
    ]


def test_the_policy_of_a_running_cortex_is_shown_and_changed(helexa) -> None:
    shown = helexa("policy").out
    assert "lend_to               trusted      default" in shown
    changed = helexa("policy", "set", "lend_classes=!chat_*", "federation.hops_max=2").out
    assert changed.splitlines()[1:] == [
        "lend_classes  !chat_*  helexa mesh policy",
        "hops_max      2        helexa mesh policy",
    ]
    assert helexa("policy", "unset", "lend_classes", "--json").json["policy"]["lend_classes"] == {
        "value": [],
        "origin": "default",
        "accepted": helexa("policy", "--json").json["policy"]["lend_classes"]["accepted"],
    }
    said = helexa("policy", "set", "hops_max=99")
    assert said.status == 1
    assert said.err == (
        "helexa: hops_max: 99 is out of range; accepted: a whole number from 0 to 8\n"
    )


def test_the_policy_of_a_cortex_that_does_not_run_is_changed_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--home", str(tmp_path / "other")]
    assert enter(["mesh", "policy", *where]) == 0
    assert not (tmp_path / "other").exists(), "looking changes nothing"
    assert enter(["mesh", "policy", *where, "set", "lend_to=own"]) == 0
    assert "lend_to  own    helexa mesh policy" in capsys.readouterr().out
    assert enter(["mesh", "policy", "set", "lend_to=all", *where]) == 1
    assert "accepted: one of nobody, known, trusted, own" in capsys.readouterr().err
    config = load({"home": ("--home", where[1])}, {})
    assert FederationStore.of(config).settings.lend_to == "own"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["deny"], "deny needs more; it takes whom"),
        (["leave", "now"], "leave takes no 'now'"),
        (["ticket", "--uses", "2"], "are about an --invite"),
        (["trust", "ben", "own"], "'own' is no level to give"),
        (["policy", "set"], "policy takes nothing"),
        (["policy", "show", "x"], "policy takes nothing"),
        (["policy", "set", "lend_to"], "'lend_to' is not NAME=VALUE"),
    ],
)
def test_words_that_do_not_go_together_exit_2_and_ask_nothing(
    helexa, mesh: ScriptedMesh, argv: list[str], words: str
) -> None:
    said = helexa(*argv)
    assert said.status == 2
    assert words in said.err
    assert mesh.asked == []


def test_a_time_that_is_none_is_refused_with_the_forms(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        enter(["mesh", "ticket", "--invite", "--expires", "soon"])
    assert ended.value.code == 2
    assert "write for example 30m, 24h or 7d" in capsys.readouterr().err


def test_without_a_cortex_the_way_to_start_one_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(["mesh", "peers", "--home", str(tmp_path)]) == 1
    assert "start one with `helexa cortex`" in capsys.readouterr().err


def test_flags_may_stand_between_an_action_and_its_words(home: Path, mesh: ScriptedMesh) -> None:
    assert enter(["mesh", "trust", "--home", str(home), "ben", "--json", "known"]) == 0
    assert mesh.asked == [("trust", OF_BEN, "known")]


class Clock:
    """Time that passes while somebody waits, and only then."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s

    def pause(self, seconds: float) -> None:
        self.s += seconds


def test_a_wait_goes_on_over_failures_and_ends_with_the_last_one() -> None:
    clock, looks = Clock(), iter([Failed("no cortex runs"), Failed("does not answer"), [1], [1, 2]])

    def look() -> list[int]:
        found = next(looks)
        if isinstance(found, Failed):
            raise found
        return found

    enough = mesh_wait.until(
        look,
        lambda found: len(found) > 1,
        within_s=30,
        missing="too few",
        clock=clock,
        pause=clock.pause,
    )
    assert enough == [1, 2]

    def never() -> list[int]:
        raise Failed("no cortex runs")

    with pytest.raises(Failed, match="no cortex runs"):
        mesh_wait.until(never, bool, within_s=1, missing="too few", clock=clock, pause=clock.pause)
    with pytest.raises(Failed, match="too few after 1 s"):
        mesh_wait.until(list, bool, within_s=1, missing="too few", clock=clock, pause=clock.pause)


def test_only_the_living_count() -> None:
    rows = [
        {"state": "alive", "offers": ["a"]},
        {"state": "dead", "offers": ["b"]},
    ]
    assert mesh_wait.is_there(rows, at_least=1, offering="a")
    assert not mesh_wait.is_there(rows, at_least=1, offering="b")
    assert not mesh_wait.is_there(rows, at_least=2, offering="")
    assert mesh_wait.is_there(rows, at_least=0, having="a")
    assert not mesh_wait.is_there(rows, at_least=0, having="b")


def rows(*some: PeerRow) -> list[dict]:
    return [dict(msgspec.to_builtins(one)) for one in some]


def test_each_change_among_peers_is_one_line(mesh: ScriptedMesh) -> None:
    ben, cas = mesh.peer_rows
    looks = iter(
        [
            rows(ben),
            rows(ben, cas),
            rows(msgspec.structs.replace(ben, state="suspect", offers=("ben-chat", "new"))),
        ]
    )
    watched = mesh_wait.watched(lambda: next(looks), pause=lambda _s: None)
    assert [next(watched) for _ in range(5)] == [
        f"cas ({CAS[:12]}) is dead, stranger",
        f"ben ({BEN[:12]}): state alive -> suspect",
        f"ben ({BEN[:12]}) no longer offers ben-embed",
        f"ben ({BEN[:12]}) offers new",
        f"cas ({CAS[:12]}) is forgotten",
    ]
