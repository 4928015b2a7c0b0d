"""A stream that breaks off at one operator's cortex is finished by another's, and counted once."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest
from tests.cortex.federated import member, model, world
from tests.gateway.broken import DIGEST, PROMPT_TOKENS, WORDS, answer, in_band
from tests.gateway.parts import Answer

from helexa.cortex.gateway import peer_door
from helexa.cortex.gateway.seams import Ticket
from helexa.protocol.continuation import CONTINUE_PATH, Continuation
from helexa.protocol.errors import Busy, envelope
from helexa.util.asgi import Scope, Send

pytestmark = pytest.mark.anyio

REFUSES = -1
TO_THE_END = 1_000
USAGE_SHOWN = {"stream_options": {"include_usage": True}}


class Script:
    """What all neurons do, one request after the other: how many words each says, then it fails."""

    def __init__(self, *acts: int) -> None:
        self.acts = deque(acts)
        self.told: list[Continuation] = []

    async def __call__(self, scope: Scope, body: bytes, send: Send) -> None:
        act = self.acts.popleft()
        done, is_rest = 0, scope["path"] == CONTINUE_PATH
        if is_rest:
            wanted = msgspec.json.decode(body, type=Continuation)
            self.told.append(wanted)
            done = len(wanted.delivered.choices[0].content)
        if act == REFUSES:
            refusal = envelope(Busy())
            await self._start(send, 503, b"application/json")
            await send({"type": "http.response.body", "body": refusal})
            return
        events = answer(WORDS[done:], role=not is_rest, resumed=done)
        if act != TO_THE_END:
            events = [*events[: act + (not is_rest)], in_band("runtime_exited")]
        await self._start(send, 200, b"text/event-stream")
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send, status: int, kind: bytes) -> None:
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": status, "headers": headers})


class Seen:
    """The tickets of requests that came from other cortexes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tickets: list[Ticket] = []
        leave = peer_door.PeerDoor.leave

        def seen(door: peer_door.PeerDoor, ticket: Ticket) -> None:
            self.tickets.append(ticket)
            leave(door, ticket)

        monkeypatch.setattr(peer_door.PeerDoor, "leave", seen)


async def test_two_cortexes_with_two_neurons_each_make_one_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Seen(monkeypatch)
    # At the first cortex one neuron says three words, its other one two more, and then both are
    # full; at the second one word, and the rest.
    script = Script(3, 2, REFUSES, REFUSES, 1, TO_THE_END)
    async with (
        world() as mesh,
        member(mesh, "a") as a,
        member(mesh, "b") as b,
        member(mesh, "c") as c,
    ):
        for lender in (b, c):
            for _ in range(2):
                await lender.neuron(model("m", digest=DIGEST), acts=script)
            await a.link(lender)
            await a.until_offered("m", by=lender)
        got = await a.ask("m", stream=True, body=USAGE_SHOWN)
    assert got.body == b"".join(answer())
    assert not script.acts
    assert [len(one.delivered.choices[0].content) for one in script.told] == [3, 5, 5, 5, 6]
    assert {one.path for one in script.told} == {"/v1/chat/completions"}
    broke, finished = seen.tickets
    assert [one.delivered_tokens for one in broke.attempts] == [3, 2, 0, 0]
    shares = [one.usage for one in finished.attempts]
    assert [usage and usage.completion for usage in shares] == [1, 2]
    assert [usage and usage.prompt for usage in shares] == [0, 0]
    value = a.metrics.registry.get_sample_value
    assert value("helexa_gateway_tokens_total", {"kind": "completion"}) == len(WORDS)
    prompt = [
        value("helexa_gateway_tokens_total", {"kind": f"prompt_{kind}"})
        for kind in ("cached", "uncached")
    ]
    assert sum(filter(None, prompt)) == PROMPT_TOKENS


async def test_a_cortex_that_has_nobody_ready_hands_it_back_and_is_asked_again() -> None:
    script = Script(3, REFUSES, REFUSES, TO_THE_END)
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        await b.neuron(model("m", digest=DIGEST), acts=script)
        await a.link(b)
        await a.until_offered("m", by=b)
        got: Answer = await a.ask("m", stream=True, body=USAGE_SHOWN)
    assert got.body == b"".join(answer())
