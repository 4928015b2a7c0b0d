"""The control API: who may call it, and what its refusals say."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.cortex.fleets import capability, descriptor, node

from helexa.cortex.accounts.keyring import keyring
from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.api.calls import BODY_BYTES_MAX
from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.fleet import Mark, NeuronMarked, NeuronRegistered
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import NodeId
from helexa.protocol.work import ModelState
from helexa.util.health import health_routes
from helexa.util.metrics import Metrics

TOKEN = "hx_admin_of_this_test"


class ScriptedMarks:
    def __init__(self, neurons: Neurons) -> None:
        self._neurons = neurons

    async def set(self, node: NodeId, mark: Mark | None) -> None:
        self._neurons.post(NeuronMarked(node=node, mark=mark))


@pytest.fixture
def neurons() -> Neurons:
    made = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(1, 4),
        name="",
        monotonic=time.monotonic,
        random=random.random,
    )
    made.post(
        NeuronRegistered(
            descriptor=descriptor(1), capabilities=(capability(),), now_s=time.monotonic()
        )
    )
    return made


@pytest.fixture
def api(tmp_path: Path, neurons: Neurons) -> Iterator[TestClient]:
    with keyring(tmp_path) as keys:
        app = application(
            admin_token=TOKEN,
            neurons=neurons,
            keys=keys.opened,
            status=lambda: {"node_id": "x"},
            health=health_routes(why_not_ready=lambda: "", metrics=Metrics()),
            marks=ScriptedMarks(neurons),
        )
        yield TestClient(
            app, headers={"authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False
        )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/neurons"),
        ("POST", f"/api/v1/neurons/{node(1)}/drain"),
        ("GET", "/api/v1/nodes"),
        ("GET", f"/api/v1/nodes/{node(1)}"),
        ("POST", f"/api/v1/nodes/{node(1)}/cordon"),
        ("GET", "/api/v1/placements"),
        ("GET", "/api/v1/policies"),
        ("GET", "/api/v1/models/m"),
        ("GET", "/api/v1/models"),
        ("POST", "/api/v1/models/m/load"),
        ("POST", "/api/v1/models/m/unload"),
        ("GET", "/api/v1/explain?model=m"),
        ("GET", "/api/v1/keys"),
        ("POST", "/api/v1/keys"),
        ("DELETE", "/api/v1/keys/key_1"),
    ],
)
@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", TOKEN + "x", "Bearer \xe9"])
def test_no_call_is_answered_without_the_admin_token(
    api: TestClient, method: str, path: str, token: str
) -> None:
    response = api.request(method, path, headers={"authorization": token.encode("latin-1")})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_admin_token"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_and_numbers_are_open(api: TestClient, path: str) -> None:
    assert api.get(path, headers={"authorization": ""}).status_code == 200


def test_a_key_is_made_listed_without_its_secret_and_revoked(api: TestClient) -> None:
    made = api.post("/api/v1/keys", json={"name": "laptop"})
    assert made.status_code == 201
    secret, key_id = made.json()["secret"], made.json()["key"]["id"]
    listing = api.get("/api/v1/keys").text
    assert key_id in listing
    assert secret not in listing
    assert api.delete(f"/api/v1/keys/{key_id}").json()["revoked_at"] > 0
    assert api.delete("/api/v1/keys/nothing").status_code == 404


def test_a_model_on_a_neuron_that_is_not_connected_cannot_be_loaded(api: TestClient) -> None:
    response = api.post("/api/v1/models/m/load")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "peer_lost"
    assert response.headers["retry-after"] == "2"


def test_routing_is_explained(api: TestClient) -> None:
    decision = api.get("/api/v1/explain", params={"model": "m"}).json()
    assert decision["targets"][0]["node"] == node(1)
    (one,) = decision["candidates"]
    assert (one["place"], one["node"], one["state"], one["slots"]) == (1, node(1), "loaded", 4)
    decision = api.get("/api/v1/explain", params={"model": "m", "workload": "embedding"}).json()
    assert decision["excluded"][0]["reason"] == "offers chat_interactive, not embedding"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/api/v1/models/nope/load", b"", 404, "model_not_found"),
        ("POST", "/api/v1/models/../load", b"", 404, "unknown_url"),
        ("POST", "/api/v1/models/m/load", b'{"node": "zzz"}', 404, "node_not_found"),
        ("POST", "/api/v1/models/m/load", b'{"nod": 1}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b"{", 400, "invalid_body"),
        ("POST", "/api/v1/keys", b'{"name": 3}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b'{"name": ""}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b'{"name": " "}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b"\xff", 400, "invalid_body"),
        ("POST", "/api/v1/keys", b"x" * (BODY_BYTES_MAX + 1), 413, "body_too_large"),
        ("GET", "/api/v1/explain?model=nope", b"", 404, "model_not_found"),
        ("GET", "/api/v1/explain?model=m&workload=play", b"", 400, "bad_request"),
        ("GET", "/api/v1/nothing", b"", 404, "unknown_url"),
        ("PUT", "/api/v1/status", b"", 405, "method_not_allowed"),
        ("GET", "/api/v1/models/a/b/load", b"", 405, "method_not_allowed"),
        ("GET", "/api/v1/models/a/b", b"", 404, "model_not_found"),
        ("GET", "/api/v1/models/..%2f..%2fetc", b"", 404, "model_not_found"),
        ("GET", "/api/v1/nodes/nobody", b"", 404, "node_not_found"),
        ("POST", "/api/v1/nodes/nobody/drain", b"", 404, "node_not_found"),
        ("POST", f"/api/v1/nodes/{node(1)}/drain", b'{"enabled": true}', 400, "invalid_body"),
        ("GET", "/api/v1/status?verbose=1", b"", 400, "bad_request"),
        ("GET", "/api/v1/explain?model=m&model=m", b"", 400, "bad_request"),
        ("GET", "/api/v1/explain?model=%ff", b"", 400, "bad_request"),
        ("GET", "/api/v1/explain", b"", 400, "bad_request"),
    ],
)
def test_a_bad_call_is_refused_in_the_envelope(
    api: TestClient, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    response = api.request(method, path, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]


def test_a_fault_of_ours_is_a_500_without_its_details(
    api: TestClient, neurons: Neurons, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> float:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(neurons, "now_s", broken)
    response = api.get("/api/v1/neurons")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text


def test_a_wrong_method_says_which_are_right(api: TestClient) -> None:
    assert api.put("/api/v1/keys").headers["allow"] == "GET, HEAD, POST"
    assert api.request("OPTIONS", "/api/v1/models/a/b/load").headers["allow"] == "POST"


@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", "\xe9"])
def test_a_body_that_says_it_is_no_json_is_not_read(api: TestClient, given: str) -> None:
    headers = {"content-type": given.encode("latin-1")}
    response = api.post("/api/v1/keys", content=b'{"name": "x"}', headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (
        415,
        "unsupported_media_type",
    )
    assert api.post("/api/v1/models/m/load", headers=headers).status_code == 503


@pytest.mark.parametrize("given", ["application/json; charset=utf-8", "application/vnd.x+json"])
def test_a_body_that_says_it_is_json_is_read(api: TestClient, given: str) -> None:
    headers = {"content-type": given}
    assert api.post("/api/v1/keys", content=b'{"name": "x"}', headers=headers).status_code == 201


def test_a_node_is_shown_with_what_it_holds_by_any_of_its_names(api: TestClient) -> None:
    one = api.get(f"/api/v1/nodes/{node(1)}").json()
    assert (one["node"], one["presence"], one["mark"], one["running"]) == (
        node(1),
        "present",
        "",
        0,
    )
    assert [held["model"] for held in one["holds"]] == ["m"]
    assert api.get("/api/v1/nodes/00").json()["node"] == node(1)
    assert api.get("/api/v1/nodes").json()["nodes"][0].keys() == one.keys() - {"holds"}


def test_marks_follow_an_operators_words(api: TestClient) -> None:
    def said(word: str) -> tuple[str, bool]:
        answer = api.post(f"/api/v1/nodes/{node(1)}/{word}").json()
        return answer["mark"], answer["draining"]

    assert said("cordon") == ("cordoned", False)
    assert said("undrain") == ("cordoned", False), "a cordon is undone by its own word alone"
    assert said("drain") == ("drained", True)
    assert said("cordon") == ("drained", True), "drained is the more of the two"
    assert said("uncordon") == ("drained", True)
    assert said("undrain") == ("", False)


def test_the_older_way_to_drain_still_works(api: TestClient) -> None:
    path = f"/api/v1/neurons/{node(1)}/drain"
    assert api.post(path).json()["mark"] == "drained"
    assert api.post(path, json={"enabled": False}).json()["mark"] == ""


def test_a_model_is_one_row_with_all_its_places(api: TestClient, neurons: Neurons) -> None:
    unloaded = capability(state=ModelState.UNLOADED)
    for number, held in ((2, unloaded), (3, capability())):
        neurons.post(
            NeuronRegistered(descriptor=descriptor(number), capabilities=(held,), now_s=1.0)
        )
    (row,) = api.get("/api/v1/models").json()["models"]
    assert (row["model"], row["state"], row["replicas"], row["slots"]) == ("m", "loaded", 2, 8)
    assert [one["node"] for one in row["nodes"]] == [node(1), node(3), node(2)]
    assert api.get("/api/v1/models/m").json() == row
    assert len(api.get("/api/v1/placements").json()["placements"]) == 3


def test_the_catalogue_keeps_what_it_says_must_be_loaded(tmp_path: Path) -> None:
    kept = catalogue([ModelEntry(id="m", replicas_min=1), ModelEntry(id="elsewhere")])
    neurons = Neurons(
        policy=policies.named("least_loaded"),
        timing=Timing(1, 4),
        name="",
        monotonic=time.monotonic,
        random=random.random,
        catalogue=lambda: kept,
    )
    neurons.post(
        NeuronRegistered(descriptor=descriptor(1), capabilities=(capability(),), now_s=0.0)
    )
    with keyring(tmp_path) as keys:
        app = application(admin_token=TOKEN, neurons=neurons, keys=keys.opened, status=dict)
        api = TestClient(app, headers={"authorization": f"Bearer {TOKEN}"})
        for method, path in (("POST", "/api/v1/models/m/unload"), ("DELETE", "/api/v1/models/m")):
            refused = api.request(method, path)
            assert refused.status_code == 409
            assert refused.json()["error"]["code"] == "kept_by_catalogue"
        rows = {row["model"]: row for row in api.get("/api/v1/models").json()["models"]}
    assert (rows["m"]["in_catalogue"], rows["m"]["replicas_min"]) == (True, 1)
    assert (rows["elsewhere"]["state"], rows["elsewhere"]["nodes"]) == ("absent", [])


def test_the_policies_say_what_they_do_and_which_is_in_force(api: TestClient) -> None:
    listed = api.get("/api/v1/policies").json()
    assert listed["in_force"] == "least_loaded"
    by_name = {one["name"]: one for one in listed["policies"]}
    assert [name for name, one in by_name.items() if one["in_force"]] == ["least_loaded"]
    assert all(one["does"] for one in by_name.values())
