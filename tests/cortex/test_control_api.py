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
from helexa.cortex.orchestrator.api import ControlApi, application
from helexa.cortex.orchestrator.calls import BODY_BYTES_MAX
from helexa.cortex.orchestrator.fleet import NeuronRegistered
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.util.health import health_routes
from helexa.util.metrics import Metrics

TOKEN = "hx_admin_of_this_test"


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
        control = ControlApi(neurons=neurons, keys=keys.opened, status=lambda: {"node_id": "x"})
        health = health_routes(why_not_ready=lambda: "", metrics=Metrics())
        app = application(control, admin_token=TOKEN, health=health)
        yield TestClient(
            app, headers={"authorization": f"Bearer {TOKEN}"}, raise_server_exceptions=False
        )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/neurons"),
        ("POST", f"/api/v1/neurons/{node(1)}/drain"),
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
        ("POST", "/api/v1/models/m/load", b'{"node": "zzz"}', 400, "bad_request"),
        ("POST", "/api/v1/models/m/load", b'{"nod": 1}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b"{", 400, "invalid_body"),
        ("POST", "/api/v1/keys", b'{"name": 3}', 400, "invalid_body"),
        ("POST", "/api/v1/keys", b'{"name": ""}', 400, "bad_request"),
        ("POST", "/api/v1/keys", b"\xff", 400, "invalid_body"),
        ("POST", "/api/v1/keys", b"x" * (BODY_BYTES_MAX + 1), 413, "body_too_large"),
        ("GET", "/api/v1/explain?model=nope", b"", 404, "model_not_found"),
        ("GET", "/api/v1/explain?model=m&workload=play", b"", 400, "bad_request"),
        ("GET", "/api/v1/nothing", b"", 404, "unknown_url"),
        ("PUT", "/api/v1/status", b"", 405, "method_not_allowed"),
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
    def broken() -> list[dict[str, object]]:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(neurons, "listed", broken)
    response = api.get("/api/v1/neurons")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
