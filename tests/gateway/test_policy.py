"""What a request asks of its way reaches the decision, on every surface, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.parts import CHAT, MODEL, Gateway, answering, gateway_to, whole

from helexa.protocol.routing import Wish

pytestmark = pytest.mark.anyio

SURFACES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"model": "m", "prompt": "hi"}),
    ("/v1/embeddings", {"model": "m", "input": "hi"}),
    ("/v1/rerank", {"model": "m", "query": "hi", "documents": ["a"]}),
    ("/v1/responses", {"model": "m", "input": "hi"}),
    ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": CHAT["messages"]}),
]


def wish_of(gateway: Gateway) -> Wish | None:
    return gateway.fleet.routed[-1][2].wish


@pytest.mark.parametrize(("path", "body"), SURFACES)
async def test_header_and_body_are_heard_together(path: str, body: dict[str, Any]) -> None:
    async with gateway_to(answering(whole())) as gateway:
        way = {
            "models": ["n"],
            "provider": {"ignore": ["x"], "sort": None},
            "helexa": {"max_price": 4},
            "route": "fallback",
        }
        policy = [(b"x-helexa-policy", b"only=a; no-resume")]
        await gateway.post({**body, **way}, path, headers=policy)
        wanted = Wish(only=("a",), without=("x",), models=("n",), price_max=4, resume=False)  # type: ignore[arg-type]
        assert wish_of(gateway) == wanted
        await gateway.post(body, path)
        assert wish_of(gateway) is None


@pytest.mark.parametrize(("path", "body"), SURFACES)
@pytest.mark.parametrize(
    ("way", "param"),
    [
        ({"provider": {"data_collection": "deny"}}, "provider.data_collection"),
        ({"helexa": {"colour": "red"}}, "helexa.colour"),
        ({"transforms": ["middle-out"]}, "transforms"),
    ],
)
async def test_what_cannot_be_kept_is_refused_before_anybody_is_looked_for(
    path: str, body: dict[str, Any], way: dict[str, Any], param: str
) -> None:
    async with gateway_to(answering(whole())) as gateway:
        answer = await gateway.post({**body, **way}, path)
        assert answer.status == 400
        if path == "/v1/messages":
            assert param in answer.json["error"]["message"]
        else:
            assert answer.json["error"]["param"] == param
        assert not gateway.fleet.routed
        assert (await gateway.post({**body, **way}, path, key="hx_live_bad")).status == 401


async def test_a_model_may_be_named_in_models_alone() -> None:
    async with gateway_to(answering(whole())) as gateway:
        body = {"messages": CHAT["messages"], "models": ["m", "n"]}
        assert (await gateway.post(body)).status == 200
        assert gateway.fleet.routed[-1][1] == MODEL
        assert wish_of(gateway) == Wish(models=("n",))  # type: ignore[arg-type]
        assert b"x-helexa-model: m" in gateway.neurons[0].requests[-1].lower()
        assert (await gateway.post({**body, "model": ""})).status == 200
        assert gateway.fleet.routed[-1][1] == MODEL
        for nameless in ({}, {"model": ""}, {"model": "", "models": []}):
            answer = await gateway.post({"messages": CHAT["messages"], **nameless})
            assert (answer.status, answer.error["param"]) == (400, "model")
            assert "missing required field `model`" in answer.error["message"]
