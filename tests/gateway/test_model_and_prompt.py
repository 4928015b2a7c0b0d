"""What a neuron is told beside the body: the model, where it is another; and what is looked at of a
prompt.
"""

from __future__ import annotations

import json

import msgspec
import pytest
from tests.gateway.parts import CHAT, answering, gateway_to, whole

from helexa.protocol.ids import ModelId
from helexa.protocol.prefix import heads

pytestmark = pytest.mark.anyio

LONG = {
    "model": "m",
    "messages": [{"role": "system", "content": "word " * 300}, {"role": "user", "content": "hi"}],
}


async def test_a_target_with_another_model_is_told_so_and_the_body_stays_as_it_is() -> None:
    async with gateway_to(answering(whole())) as gateway:
        gateway.fleet.leads_to = ModelId("other/model")
        body = b'{ "model" : "m", "messages":[{"role":"user","content":"hi"}] }'
        assert (await gateway.post(body)).status == 200
        head, _, sent = gateway.neurons[0].requests[0].partition(b"\r\n\r\n")
        assert sent == body
        assert b"x-helexa-model: other/model" in head.split(b"\r\n")


async def test_the_bodys_own_model_needs_no_word_and_a_clients_word_is_not_heard() -> None:
    async with gateway_to(answering(whole())) as gateway:
        gateway.fleet.leads_to = ModelId("m")
        answer = await gateway.post(CHAT, headers=[(b"x-helexa-model", b"secret")])
        assert answer.status == 200
        assert gateway.fleet.routed[0][1] == "m"
        assert b"x-helexa-model" not in gateway.neurons[0].requests[0]


async def test_the_head_of_a_prompt_is_looked_at_only_where_it_is_wanted() -> None:
    async with gateway_to(answering(whole())) as gateway:
        await gateway.post(LONG)
        gateway.fleet.by_prefix = True
        await gateway.post(LONG)
        await gateway.post(CHAT)
        found = [hints.prefixes for _, _, hints in gateway.fleet.routed]
    assert found[0] == found[2] == ()
    assert found[1] == heads(json.dumps(LONG["messages"]).encode())
    assert len(found[1]) == 2


async def test_the_head_is_of_the_clients_own_bytes_wherever_the_prompt_stands_in_the_body() -> (
    None
):
    prompt = b'[ {"role":"user",  "content":"%s \\u00e9"} ]' % (b"x" * 2000)
    bodies = (
        b'{"model":"m","messages":%s}' % prompt,
        b'{"seed": 7, "messages" : %s , "model":"m", "stop":["messages"]}' % prompt,
    )
    async with gateway_to(answering(whole())) as gateway:
        gateway.fleet.by_prefix = True
        for body in bodies:
            await gateway.post(body)
        await gateway.post(
            b'{"model":"m","prompt":%s}' % msgspec.json.encode("y" * 600), "/v1/completions"
        )
        await gateway.post({"model": "m", "input": "z" * 600}, "/v1/embeddings")
        found = [hints.prefixes for _, _, hints in gateway.fleet.routed]
    assert found[0] == found[1] == heads(prompt)
    assert found[2] == heads(b'"%s"' % (b"y" * 600))
    assert found[3] == ()
