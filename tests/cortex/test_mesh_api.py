"""The mesh's calls: what they hand on, what they answer, and what they refuse."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.cortex.scripted_mesh import BEN, CAS, ME, NEW, OF_BEN, STEPS, ScriptedMesh

from helexa.config import load
from helexa.config.federation import FederationStore
from helexa.cortex.accounts.keyring import keyring
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.api.calls import BODY_BYTES_MAX
from helexa.cortex.orchestrator.api.join_answer import STEPS_AHEAD_MAX
from helexa.cortex.orchestrator.mesh_control import InviteWish
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.protocol.errors import PeerLost

TOKEN = "hx_admin_of_this_test"


def no_neurons() -> Neurons:
    return Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(1, 4),
        name="",
        monotonic=time.monotonic,
        random=random.random,
    )


@pytest.fixture
def mesh(tmp_path: Path) -> ScriptedMesh:
    return ScriptedMesh(FederationStore.of(load({"home": ("--home", str(tmp_path))}, {})))


@pytest.fixture
def api(tmp_path: Path, mesh: ScriptedMesh) -> Iterator[TestClient]:
    with keyring(tmp_path) as keys:
        app = application(
            admin_token=TOKEN, neurons=no_neurons(), keys=keys.opened, status=dict, mesh=mesh
        )
        yield TestClient(app, headers={"authorization": f"Bearer {TOKEN}"})


CALLS = "peers pending policy join leave ticket ping approve deny trust forget"


@pytest.mark.parametrize("call", ["", *(f"/{word}" for word in CALLS.split())])
def test_no_call_is_answered_without_the_admin_token(
    api: TestClient, mesh: ScriptedMesh, call: str
) -> None:
    for method in ("GET", "POST"):
        response = api.request(method, f"/api/v1/mesh{call}", headers={"authorization": "Bearer x"})
        assert response.status_code in (401, 405)
    assert mesh.asked == []


def test_status_peers_and_pending_are_shown(api: TestClient) -> None:
    status = api.get("/api/v1/mesh").json()
    assert (status["node"], status["members"]) == (ME, {"alive": 1, "dead": 1})
    peers = api.get("/api/v1/mesh/peers").json()["peers"]
    assert [(one["node"], one["state"]) for one in peers] == [(BEN, "alive"), (CAS, "dead")]
    assert peers[0]["offers"] == ["ben-chat", "ben-embed"]
    (waits,) = api.get("/api/v1/mesh/pending").json()["pending"]
    assert (waits["node"], waits["role"]) == (NEW, "cortex")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_join_tells_each_step_and_then_the_whole_report(
    api: TestClient, mesh: ScriptedMesh
) -> None:
    response = api.post("/api/v1/mesh/join", json={"ticket": "helexaabc"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert lines(response.text) == [
        *({"step": step} for step in STEPS),
        {"joined": False, "steps": list(STEPS)},
    ]
    assert mesh.asked == [("join", "helexaabc")]


def test_a_join_without_a_ticket_is_refused_before_anything_is_told(api: TestClient) -> None:
    response = api.post("/api/v1/mesh/join", json={"ticket": "nonsense"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "ticket"


def test_a_join_that_is_refused_midway_says_so_in_its_last_line(
    api: TestClient, mesh: ScriptedMesh
) -> None:
    mesh.join_refusal = PeerLost()
    told = lines(api.post("/api/v1/mesh/join", json={"ticket": "helexaabc"}).text)
    assert [list(line) for line in told] == [["step"], ["step"], ["error"]]
    assert told[-1]["error"]["code"] == "peer_lost"


def test_a_join_of_endless_steps_holds_a_bounded_number_and_the_report_has_all(
    api: TestClient, mesh: ScriptedMesh
) -> None:
    mesh.steps = [*STEPS] * STEPS_AHEAD_MAX
    told = lines(api.post("/api/v1/mesh/join", json={"ticket": "helexaabc"}).text)
    assert len(told) <= STEPS_AHEAD_MAX + 2
    assert len(told[-1]["steps"]) == 2 * STEPS_AHEAD_MAX


def test_a_join_without_steps_still_has_its_report(api: TestClient, mesh: ScriptedMesh) -> None:
    mesh.steps, mesh.joined = (), True
    assert api.post("/api/v1/mesh/join", json={"ticket": "helexaabc"}).json() == {
        "joined": True,
        "steps": [],
    }


def test_a_ticket_carries_an_invite_when_one_is_wished_for(
    api: TestClient, mesh: ScriptedMesh
) -> None:
    assert api.post("/api/v1/mesh/ticket").json() == {"ticket": "helexaticket"}
    invite = {"uses": 3, "expires_s": 3600, "role": "neuron", "trust": "trusted"}
    made = api.post("/api/v1/mesh/ticket", json={"invite": invite})
    assert made.json() == {"ticket": "helexaguest"}
    assert mesh.asked == [("ticket", None), ("ticket", InviteWish(**invite))]


def test_names_and_heads_of_ids_reach_the_mesh_as_full_ids(
    api: TestClient, mesh: ScriptedMesh
) -> None:
    pinged = api.post("/api/v1/mesh/ping", json={"who": "ben"}).json()
    assert (pinged["node"], pinged["transport"]) == (BEN, "tls")
    api.post("/api/v1/mesh/approve", json={"who": "new"})
    api.post("/api/v1/mesh/trust", json={"who": "ben"})
    api.post("/api/v1/mesh/trust", json={"who": BEN[:10], "level": "known"})
    api.post("/api/v1/mesh/deny", json={"who": "cas"})
    api.post("/api/v1/mesh/forget", json={"who": OF_BEN})
    assert mesh.asked == [
        ("ping", BEN),
        ("approve", NEW, "known"),
        ("trust", OF_BEN, "trusted"),
        ("trust", BEN, "known"),
        ("deny", CAS),
        ("forget", OF_BEN),
    ]


def test_a_head_that_only_the_admission_may_know_is_passed_on(api: TestClient) -> None:
    response = api.post("/api/v1/mesh/forget", json={"who": "deadbeef"})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "Nothing was decided about 'deadbeef'."


def test_a_peer_that_does_not_answer_is_a_503(api: TestClient) -> None:
    response = api.post("/api/v1/mesh/ping", json={"who": "cas"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "peer_lost")


def test_leaving_is_handed_on(api: TestClient, mesh: ScriptedMesh) -> None:
    assert api.post("/api/v1/mesh/leave").json() == {"left": True}
    assert mesh.asked == [("leave",)]


def test_the_policy_is_shown_changed_and_taken_back(api: TestClient) -> None:
    shown = api.get("/api/v1/mesh/policy").json()["policy"]
    assert shown["lend_to"] == {
        "value": "trusted",
        "origin": "default",
        "accepted": "one of nobody, known, trusted, own",
    }
    change = {"set": {"lend_classes": "!chat_*", "hops_max": 2}}
    changed = api.post("/api/v1/mesh/policy", json=change).json()["policy"]
    assert changed["lend_classes"]["value"] == ["!chat_*"]
    assert changed["lend_classes"]["origin"] == "helexa mesh policy"
    assert api.get("/api/v1/mesh/policy").json()["policy"] == changed
    back = api.post("/api/v1/mesh/policy", json={"unset": ["lend_classes"]}).json()["policy"]
    assert back["lend_classes"]["value"] == []
    assert back["hops_max"]["value"] == 2


@pytest.mark.parametrize(
    ("call", "body", "status", "code"),
    [
        ("join", b"{}", 400, "invalid_body"),
        ("join", b'{"ticket": 3}', 400, "invalid_body"),
        ("join", json.dumps({"ticket": "h" * 9000}).encode(), 400, "invalid_body"),
        ("leave", b'{"really": true}', 400, "invalid_body"),
        ("ticket", b'{"invite": {"uses": 0}}', 400, "invalid_body"),
        ("ticket", b'{"invite": {"expires_s": 1e12}}', 400, "invalid_body"),
        ("ticket", b'{"invite": {"trust": "own"}}', 400, "invalid_body"),
        ("ticket", b'{"invite": {"role": "king"}}', 400, "invalid_body"),
        ("ping", b'{"who": ""}', 400, "invalid_body"),
        ("ping", b'{"who": "nobody"}', 404, "peer_not_found"),
        ("ping", b'{"who": "ffffffffff"}', 404, "peer_not_found"),
        ("approve", b'{"who": "nobody"}', 404, "peer_not_found"),
        ("approve", b'{"who": "new", "trust": "own"}', 400, "invalid_body"),
        ("trust", b'{"who": "ben", "level": "denied"}', 400, "invalid_body"),
        ("deny", b'{"whom": "ben"}', 400, "invalid_body"),
        ("forget", b"[" * 20_000, 400, "invalid_body"),
        ("policy", b'{"set": {"hops_max": 99}}', 400, "bad_request"),
        ("policy", b'{"set": {"nonsense": 1}}', 400, "bad_request"),
        ("policy", b'{"unset": "lend_to"}', 400, "invalid_body"),
        ("policy", b"\xff", 400, "invalid_body"),
        ("join", b" " * (BODY_BYTES_MAX + 1), 413, "body_too_large"),
    ],
)
def test_a_bad_call_is_refused_in_the_envelope_and_does_nothing(
    api: TestClient, mesh: ScriptedMesh, call: str, body: bytes, status: int, code: str
) -> None:
    before = mesh.policy()
    response = api.post(f"/api/v1/mesh/{call}", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]
    assert mesh.asked == []
    assert mesh.policy() == before


def test_a_cortex_without_a_mesh_has_no_such_paths(tmp_path: Path) -> None:
    with keyring(tmp_path) as keys:
        client = TestClient(
            application(admin_token=TOKEN, neurons=no_neurons(), keys=keys.opened, status=dict)
        )
        response = client.get("/api/v1/mesh", headers={"authorization": f"Bearer {TOKEN}"})
    assert response.json()["error"]["code"] == "unknown_url"
