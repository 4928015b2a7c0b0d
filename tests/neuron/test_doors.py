"""Who may pass which door."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from helexa.neuron.serving.doors import ApiDoor, WorkDoor, path_proof
from helexa.protocol.errors import AdminTokenInvalid, KeyInvalid, OriginForbidden
from helexa.util.sockets import Address

TOKEN = "hx_admin_token"
LOOPBACK = ApiDoor(Address("127.0.0.1", 8060), TOKEN)
OPEN = ApiDoor(Address("0.0.0.0", 8060), TOKEN)


def scope(path: str = "/v1/models", **headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"path": path, "headers": raw}


def test_programs_of_this_machine_pass_on_loopback() -> None:
    LOOPBACK.check(scope(host="127.0.0.1:8060"))
    LOOPBACK.check(scope(host="localhost:8060", origin="http://localhost:3000"))
    LOOPBACK.check(scope(host="[::1]:8060"))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.evil.example.com"},
        {"host": "evil.example:8060"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "127.a.b.c"},
        {"host": "[::1"},
    ],
)
def test_pages_of_strangers_do_not_pass_on_loopback(headers: dict[str, str]) -> None:
    with pytest.raises(OriginForbidden):
        LOOPBACK.check(scope(**headers))


def test_management_needs_the_token_everywhere() -> None:
    for door in (LOOPBACK, OPEN):
        with pytest.raises(AdminTokenInvalid):
            door.check(scope("/api/v1/status"))
        with pytest.raises(AdminTokenInvalid):
            door.check(scope("/api/v1/status", authorization="Bearer wrong"))
        door.check(scope("/api/v1/status", authorization=f"Bearer {TOKEN}"))


def test_off_loopback_work_needs_the_token_and_health_does_not() -> None:
    with pytest.raises(KeyInvalid):
        OPEN.check(scope("/v1/chat/completions"))
    OPEN.check(scope("/v1/chat/completions", authorization=f"bearer {TOKEN}"))
    OPEN.check(scope("/v1/chat/completions", x_api_key=TOKEN))
    OPEN.check(scope("/healthz"))
    OPEN.check(scope("/readyz"))
    with pytest.raises(KeyInvalid):
        OPEN.check(scope("/metrics"))


def test_a_work_token_holds_until_it_is_replaced_or_taken_back() -> None:
    door = WorkDoor()
    first = door.token_for("c1")
    other = door.token_for("c2")
    door.check(scope(x_helexa_token=first))
    second = door.token_for("c1")
    with pytest.raises(KeyInvalid):
        door.check(scope(x_helexa_token=first))
    door.forget("c1", first)  # The end of an old link must not take the new one's token.
    door.check(scope(x_helexa_token=second))
    door.forget("c1", second)
    with pytest.raises(KeyInvalid):
        door.check(scope(x_helexa_token=second))
    door.check(scope(x_helexa_token=other))
    with pytest.raises(KeyInvalid):
        door.check(scope())


def test_the_proof_needs_the_token_and_the_nonce() -> None:
    asked = scope("/helexa/v1/path", x_helexa_token="t", x_helexa_nonce="n")
    expected = hmac.new(b"t", b"n", hashlib.sha256).hexdigest()
    assert path_proof(asked) == expected.encode()
