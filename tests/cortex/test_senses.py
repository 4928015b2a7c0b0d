"""Pictures, vectors and scores go to those who can, and are refused before anybody is asked."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.cortex.federated import Member, member, model, world
from tests.cortex.test_federation_routes import pair

from helexa.protocol.work import Modality, ModelState, WorkloadClass

pytestmark = pytest.mark.anyio

TALKS = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
SEES: dict[str, Any] = {
    "classes": (*TALKS, WorkloadClass.VISION),
    "modalities": (Modality.TEXT, Modality.IMAGE),
}


def with_part(role: str = "user", kind: str = "image_url") -> dict[str, Any]:
    part = {"type": kind, kind: {"url": "http://pictures.test/a.png"}}
    return {"messages": [{"role": role, "content": [{"type": "text", "text": "?"}, part]}]}


async def posted(cortex: Member, path: str, body: bytes) -> tuple[int, bytes]:
    with anyio.fail_after(5):
        sent = [(b"authorization", b"Bearer hx_live_good")]
        with await cortex.client.request("POST", path, sent, body) as response:
            return response.status, await response.read(1 << 16)


@pytest.mark.parametrize("state", [ModelState.LOADED, ModelState.UNLOADED])
@pytest.mark.parametrize("role", ["user", "assistant", "tool", "system"])
async def test_a_picture_for_a_model_that_reads_text_asks_no_neuron(
    state: ModelState, role: str
) -> None:
    async with world() as mesh, member(mesh, "a") as a:
        neuron = await a.neuron(model("m", state=state, classes=TALKS))
        for stream in (False, True):
            answer = await a.ask("m", stream=stream, body=with_part(role))
            assert (answer.status, answer.error["code"]) == (400, "unsupported_modality")
            assert answer.error["message"] == "The model 'm' does not take image input."
        sound = await a.ask("m", body=with_part(kind="input_audio"))
        assert sound.error["message"] == "The model 'm' does not take audio input."
        assert neuron.asked == []


async def test_a_picture_goes_to_the_copy_that_sees() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        blind = await a.neuron(model("m", classes=TALKS))
        seeing = await a.neuron(model("m", **SEES))
        for _ in range(6):
            assert (await a.ask("m", body=with_part())).status == 200
        assert blind.asked == []
        assert len(seeing.asked) == 6


async def test_another_cortex_is_not_asked_to_look_with_a_model_that_reads_text() -> None:
    async with pair() as (a, b, neuron):
        answer = await a.ask("m", body=with_part())
        assert (answer.status, answer.error["code"]) == (400, "unsupported_modality")
        assert neuron.asked == []
        await b.neuron(model("eye", **SEES))
        await a.until_offered("eye", by=b)
        assert (await a.ask("eye", body=with_part())).status == 200


async def test_scores_are_not_asked_of_a_model_that_talks() -> None:
    async with world() as mesh, member(mesh, "a") as a:
        neuron = await a.neuron(model("m", classes=TALKS))
        status, answer = await posted(
            a, "/v1/rerank", b'{"model":"m","query":"q","documents":["d"]}'
        )
        assert status == 400
        assert b"unsupported_capability" in answer
        assert b"rerank" in answer
        assert neuron.asked == []


async def test_abilities_are_listed_also_those_that_are_borrowed() -> None:
    async with pair() as (a, b, _):
        words = ("json_schema", "tools")
        await b.neuron(model("able", abilities=words, tools=True))
        await a.until_offered("able", by=b)
        with anyio.fail_after(5):
            sent = [(b"authorization", b"Bearer hx_live_good")]
            with await a.client.request("GET", "/v1/models/able", sent) as response:
                listed = await response.read(1 << 16)
        assert b'"abilities":["json_schema","tools"]' in listed
