"""The portal's page: what it says of a fleet, and that it says it safely."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from starlette.testclient import TestClient
from tests.cortex.fleets import capability, descriptor, fleet, node

from helexa.cortex.orchestrator.fleet import FleetView, NeuronLeft, NeuronRegistered, apply
from helexa.cortex.portal.app import portal
from helexa.cortex.portal.overview import Overview, model_rows, neuron_rows
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState


def overview(view: FleetView, base_url: str = "http://{host}:8080/v1") -> Callable[[str], Overview]:
    return lambda host: Overview(
        name="",
        version="0",
        node=node(9),
        base_url=base_url.format(host=host),
        roles=("gateway", "portal"),
        models=model_rows(view),
        neurons=neuron_rows(view, 100.0),
    )


def page(view: FleetView, host: str = "box.example:8091", base_url: str | None = None) -> str:
    facts = overview(view) if base_url is None else overview(view, base_url)
    response = TestClient(portal(facts), base_url=f"http://{host}").get("/")
    assert response.status_code == 200
    return response.text


def test_the_page_shows_models_neurons_and_a_call_that_names_a_loaded_model() -> None:
    view = fleet((1, (capability("cold", ModelState.UNLOADED), capability("warm"))))
    text = page(view)
    assert "http://box.example:8080/v1" in text
    assert "&#34;model&#34;: &#34;warm&#34;" in text or '"model": "warm"' in text
    assert "loads at the first request" in text


def test_a_gone_neuron_is_shown_with_the_reason_and_its_models_are_not_offered() -> None:
    view = apply(fleet((1, (capability("m"),))), NeuronLeft(node=node(1), reason="lost", now_s=97))
    text = page(view)
    assert "for 3 s: lost" in text
    assert "No model is served yet" in text


def test_a_page_without_gateway_models_or_neurons_says_what_to_do_next() -> None:
    text = page(FleetView(), base_url="")
    assert "--gateway-socket" in text
    assert "helexa neuron --cortex TICKET" in text


def test_names_that_a_stranger_chose_are_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    named = msgspec.structs.replace(descriptor(1), name=evil)
    shown = msgspec.structs.replace(capability(), model=ModelId(evil), reason=evil)
    view = apply(FleetView(), NeuronRegistered(descriptor=named, capabilities=(shown,), now_s=0.0))
    assert "<script" not in page(view)


@pytest.mark.parametrize("host", ['"><script>', "a b", "x" * 300, ""])
def test_a_host_header_that_is_no_host_name_is_not_repeated(host: str) -> None:
    client = TestClient(portal(overview(FleetView())))
    assert "http://127.0.0.1:8080/v1" in client.get("/", headers={"host": host}).text


def test_every_page_forbids_scripts_and_framing() -> None:
    client = TestClient(portal(overview(FleetView())))
    for path in ("/", "/nothing-here"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"]
)
def test_static_files_do_not_lead_out_of_their_folder(path: str) -> None:
    assert TestClient(portal(overview(FleetView()))).get(path).status_code == 404
