"""What an answer says of how it was made, and what is passed on of a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.parts import (
    CHAT,
    DONE,
    STREAM,
    answering,
    gateway_to,
    refusal,
    streaming,
    token,
    whole,
)

from helexa.cortex.orchestrator.labels import NAME_CHARS_MAX, label, priced, safe_name
from helexa.protocol.ids import ModelId
from helexa.protocol.trace import in_logs, is_sound, passed_on
from helexa.protocol.work import Price

anyio = pytest.mark.anyio
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OWNER = "ab" * 8
WHO = f"0000; operator={OWNER}"
INFORMATION = ("served-by", "price", "queue-ms", "model", "attempts")


@anyio
async def test_an_answer_says_who_made_it_at_which_price_and_how_late() -> None:
    for script, body in ((answering(whole()), CHAT), (streaming(token("a"), DONE), STREAM)):
        async with gateway_to(script) as gateway:
            gateway.fleet.price = Price(prompt_uncached=3, prompt_cached=1, completion=8)
            headers = (await gateway.post(body)).headers
            assert headers["x-helexa-served-by"] == WHO
            assert headers["x-helexa-price"] == "prompt=3; completion=8; cached=1; reasoning=0"
            assert headers["x-helexa-queue-ms"] == "0"
            assert "x-helexa-model" not in headers
            assert "x-helexa-attempts" not in headers


@anyio
async def test_a_second_try_and_another_model_are_told() -> None:
    async with gateway_to(answering(refusal(503, "overloaded")), answering(whole())) as gateway:
        gateway.fleet.leads_to = ModelId("team/other")
        headers = (await gateway.post(CHAT)).headers
        assert headers["x-helexa-served-by"] == f"0001; operator={OWNER}"
        assert headers["x-helexa-attempts"] == "2"
        assert headers["x-helexa-model"] == "team/other"


@anyio
async def test_nothing_is_told_to_who_wants_to_hear_nothing_nor_where_the_operator_is_silent() -> (
    None
):
    async with gateway_to(answering(whole())) as gateway:
        quiet = await gateway.post(CHAT, headers=[(b"x-helexa-quiet", b"1")])
        assert not [one for one in INFORMATION if f"x-helexa-{one}" in quiet.headers]
        assert "x-helexa-request-id" in quiet.headers
        assert "x-helexa-served-by" not in (await gateway.post(b"{")).headers
    async with gateway_to(answering(whole()), tell_served_by=False) as gateway:
        headers = (await gateway.post(CHAT)).headers
        assert "x-helexa-served-by" not in headers
        assert headers["x-helexa-price"] == "prompt=0; completion=0"


@given(st.text(max_size=200))
def test_no_name_can_break_a_header(name: str) -> None:
    safe = safe_name(name)
    assert 0 < len(safe) <= NAME_CHARS_MAX
    for via in (False, True):
        made = label(digest="", price=Price(), operator="cd" * 32, name=name, via=via)
        assert made.who_line.count(b"\r\n") == 1
        assert made.who_line.isascii()
        assert made.who_line.count(b";") == 1
        assert b"operator=cdcdcdcdcdcdcdcd" in made.who_line


def test_prices_that_are_the_same_are_said_once() -> None:
    assert priced(Price(prompt_uncached=1, prompt_cached=1, completion=2, reasoning=2)) == (
        b"prompt=1; completion=2"
    )


# --- traces


@anyio
async def test_a_trace_goes_on_to_the_neuron_and_a_malformed_one_does_not() -> None:
    async with gateway_to(answering(whole())) as gateway:
        sent = [(b"traceparent", PARENT), (b"tracestate", b"a=1,b=2")]
        await gateway.post(CHAT, headers=sent)
        heard = gateway.neurons[0].requests[-1].lower()
        assert b"traceparent: " + PARENT in heard
        assert b"tracestate: a=1,b=2" in heard
        await gateway.post(CHAT, headers=[(b"traceparent", b"00-0-0-0"), sent[1]])
        heard = gateway.neurons[0].requests[-1].lower()
        assert b"trace" not in heard
        await gateway.post(CHAT, headers=[sent[1]])
        assert b"trace" not in gateway.neurons[0].requests[-1].lower()


@pytest.mark.parametrize(
    ("parent", "sound"),
    [
        (PARENT, True),
        (b"cc" + PARENT[2:] + b"-later", True),
        (PARENT + b"-more", False),
        (b"ff" + PARENT[2:], False),
        (PARENT.upper(), False),
        (b"00-" + b"0" * 32 + PARENT[35:], False),
        (PARENT[:36] + b"0" * 16 + PARENT[52:], False),
        (b"cc" + PARENT[2:] + b"-" + b"x" * 300, False),
        (b"", False),
    ],
)
def test_a_trace_is_of_the_form_that_the_standard_has(parent: bytes, sound: bool) -> None:
    assert is_sound(parent) is sound
    assert bool(passed_on(parent, b"a=1")) is sound
    assert bool(in_logs(parent)) is sound


def test_a_state_that_is_too_long_or_no_text_is_left_out() -> None:
    assert passed_on(PARENT, b"a=1") == ((b"traceparent", PARENT), (b"tracestate", b"a=1"))
    for state in (b"x" * 513, b"a=\xc3\xa9", b"", None):
        assert passed_on(PARENT, state) == ((b"traceparent", PARENT),)
    assert in_logs(PARENT) == {"trace": "0af7651916cd43dd8448eb211c80319c"}
