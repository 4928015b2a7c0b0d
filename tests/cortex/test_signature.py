"""Signed calls: what a signature covers, how long it is good, and whose is taken."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.from_thread
import pytest
from starlette.testclient import TestClient
from tests.cortex.whole import Whole, whole

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import Signatures, application
from helexa.cortex.orchestrator.api import signature as signature_module
from helexa.cortex.orchestrator.api.signature import (
    NODE,
    NONCE,
    SIGNATURE,
    TIME,
    WINDOW_S,
    Claim,
    signed,
)
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.reception import Timing
from helexa.mesh.identity import NodeKey
from helexa.protocol.errors import Busy, SignatureInvalid
from helexa.protocol.ids import NodeId

KEY = NodeKey.generate()
OWN = NodeKey.generate()
CORTEX = OWN.node_id
NOW_S = 1_800_000_000.0


class World:
    def __init__(self) -> None:
        self.now_s = NOW_S
        self.own = {KEY.node_id}
        self.signatures = Signatures(CORTEX, lambda node: node in self.own, unix=lambda: self.now_s)
        neurons = Neurons(
            policy=policies.named("least_loaded"),
            timing=Timing(1, 4),
            name="",
            monotonic=time.monotonic,
            random=random.random,
        )
        app = application(
            admin_token="hx_admin_of_this_test",
            neurons=neurons,
            keys=no_keys,
            status=lambda: {"node_id": "x"},
            signatures=self.signatures,
        )
        self.client = TestClient(app)

    def headers(self, method: str = "GET", target: str = "/api/v1/status", body: bytes = b"",
                *, key: NodeKey = KEY, cortex: NodeId = CORTEX) -> dict[str, str]:  # fmt: skip
        return dict(signed(key, cortex, method, target, body, unix_s=self.now_s))

    def code(self, headers: dict[str, str], method: str = "GET", target: str = "/api/v1/status",
             body: bytes = b"") -> str:  # fmt: skip
        response = self.client.request(method, target, headers=headers, content=body)
        return "" if response.is_success else str(response.json()["error"]["code"])


async def no_keys() -> Any:
    raise AssertionError("nobody asks for keys here")


@pytest.fixture
def here() -> World:
    return World()


def test_a_signed_call_is_answered_once(here: World) -> None:
    headers = here.headers()
    assert here.code(headers) == ""
    assert here.code(headers) == "invalid_signature"
    assert here.code(here.headers()) == ""


def test_the_cortex_itself_may_sign(here: World) -> None:
    assert here.code(here.headers(key=OWN)) == ""


def test_a_node_of_another_operator_is_known_and_may_not(here: World) -> None:
    stranger = NodeKey.generate()
    assert here.code(here.headers(key=stranger)) == "not_allowed"
    here.own.clear()
    assert here.code(here.headers()) == "not_allowed"


def test_everything_about_a_call_is_signed(here: World) -> None:
    target, other = "/api/v1/models/m/load", "/api/v1/models/n/load"
    body = b'{"node": "a"}'
    for changed in (
        lambda: here.code(here.headers("POST", target, body), "POST", target, b'{"node": "b"}'),
        lambda: here.code(here.headers("POST", target, body), "POST", other, body),
        lambda: here.code(here.headers("GET", "/api/v1/explain?model=a"), "GET",
                          "/api/v1/explain?model=b"),
        lambda: here.code(here.headers("GET", "/api/v1/keys"), "DELETE", "/api/v1/keys/x"),
        lambda: here.code(here.headers(cortex=NodeKey.generate().node_id)),
        lambda: here.code({**here.headers(), TIME: str(int(NOW_S) + 1)}),
        lambda: here.code({**here.headers(), NONCE: "x" * 20}),
        lambda: here.code({**here.headers(), NODE: OWN.node_id}),
    ):  # fmt: skip
        assert changed() == "invalid_signature"
    assert here.code(here.headers("POST", target, body), "POST", target, body) == "node_not_found"


@pytest.mark.parametrize("off_s", [WINDOW_S + 1, -WINDOW_S - 1])
def test_a_call_of_another_time_is_refused_and_told_how_far_off_it_is(
    here: World, off_s: int
) -> None:
    here.now_s += 10 * WINDOW_S
    headers = here.headers()
    here.now_s += off_s
    response = here.client.get("/api/v1/status", headers=headers)
    assert response.status_code == 401
    assert f"{-off_s:+d} s off" in response.json()["error"]["message"]


def test_a_nonce_is_remembered_for_as_long_as_its_call_would_be_good(here: World) -> None:
    here.now_s += 10 * WINDOW_S
    early = here.headers()
    here.now_s -= WINDOW_S
    assert here.code(early) == ""
    here.now_s += 2 * WINDOW_S
    assert here.code(early) == "invalid_signature"


def test_what_an_earlier_run_heard_is_not_heard_again(here: World) -> None:
    headers = here.headers()
    assert here.code(headers) == ""
    again = World()
    again.now_s = here.now_s + 1
    again.signatures._began_s = int(again.now_s)
    assert again.code(headers) == "invalid_signature"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (NODE, "x" * 64),
        (NODE, ""),
        (TIME, "soon"),
        (TIME, "9" * 13),
        (TIME, "\u0661"),
        (NONCE, "short"),
        (NONCE, "n" * 65),
        (NONCE, "with\tspace and more"),
        (SIGNATURE, "ab"),
        (SIGNATURE, "Z" * 128),
        (SIGNATURE, "00" * 64),
    ],
)
def test_what_cannot_be_a_signature_is_refused(here: World, header: str, value: str) -> None:
    headers: dict[str, Any] = {**here.headers(), header: value.encode()}
    assert here.code(headers) == "invalid_signature"


def test_who_sends_neither_token_nor_signature_is_told_of_the_token(here: World) -> None:
    assert here.code({}) == "invalid_admin_token"
    assert here.code({**here.headers(), "authorization": "Bearer wrong"}) == "invalid_admin_token"


def test_so_many_calls_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature_module, "NONCES_MAX", 3)
    here = World()

    def prove() -> None:
        headers = here.headers()
        here.signatures.prove(
            Claim(
                node=KEY.node_id,
                time=headers[TIME],
                nonce=headers[NONCE],
                signature=bytes.fromhex(headers[SIGNATURE]),
                method="GET",
                target="/api/v1/status",
            ),
            b"",
        )

    for _ in range(3):
        prove()
    with pytest.raises(Busy):
        prove()
    here.now_s += 2 * WINDOW_S + 2
    prove()
    with pytest.raises(SignatureInvalid):
        here.signatures.prove(
            Claim(
                node=KEY.node_id,
                time=str(int(here.now_s)),
                nonce="n" * 16,
                signature=bytes(64),
                method="GET",
                target="/",
            ),
            b"",
        )


# --- on the wire


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    home: Path = tmp_path_factory.mktemp("home") / "cortex"
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(whole(home)) as running,
    ):
        yield running


def test_a_cortex_takes_its_own_signature_and_no_strange_neuron_s(live: Whole) -> None:
    own = NodeKey.load_or_create(live.cortex.admin_token_path.parent / "node.key")

    def sign(key: NodeKey) -> Any:
        return signed(key, live.cortex.node_id, "POST", TARGET, b"{}", unix_s=time.time())

    assert asked(live, sign(own)) == 200
    assert asked(live, sign(live.neuron.key)) == 403


TARGET = "/api/v1/models/%6d/load"
"""`m`, written so that what is signed is what was sent and not what it means."""


def asked(live: Whole, headers: Any) -> int:
    parts = urlsplit(live.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("POST", TARGET, b"{}", dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
