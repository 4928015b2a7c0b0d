"""A client of one cortex is served by the neuron of another operator's."""

from __future__ import annotations

import json

import anyio
import pytest
from tests.cortex.federated import Member, member, model, pair, served_by, world
from tests.gateway.parts import refusal

from helexa.cortex.orchestrator.federation import lanes, peers
from helexa.cortex.orchestrator.fleet import NeuronLeft
from helexa.mesh.sessions.session import Session
from helexa.mesh.transport import Stream
from helexa.mesh.trust import Trust
from helexa.protocol.ids import NodeId

pytestmark = pytest.mark.anyio


async def test_a_client_gets_the_answer_of_a_model_that_only_the_other_cortex_has() -> None:
    async with pair() as (a, b, neuron):
        answer = await a.ask("m")
        assert answer.status == 200
        assert answer.json["choices"][0]["message"]["content"] == "one two"
        assert served_by(answer) == "b"
        assert served_by(await b.ask("m")) == "local"
        assert len(neuron.asked) == 2
        assert (a.count("out", "ok"), b.count("in", "ok")) == (1, 1)


async def test_a_stream_passes_through_both_and_usage_is_counted_but_not_shown() -> None:
    async with pair() as (a, b, _):
        answer = await a.ask("m", stream=True)
        contents = [
            json.loads(event)["choices"][0]["delta"]["content"] for event in answer.events[:-1]
        ]
        assert contents == ["one", "two"]
        assert answer.events[-1] == "[DONE]"
        assert served_by(answer) == "b"
        tokens = a.metrics.registry.get_sample_value(
            "helexa_gateway_tokens_total", {"kind": "prompt_uncached"}
        )
        assert tokens == 6
        # At b it was a peer's request and none of its gateway's.
        name, labels = "helexa_gateway_requests_total", {"path": "/v1/chat/completions"}
        assert b.metrics.registry.get_sample_value(name, {**labels, "status": "200"}) is None


async def test_the_body_arrives_as_the_client_wrote_it_without_its_key() -> None:
    async with pair() as (a, _, neuron):
        await a.ask("m", body={"zzz": [1.0, "é"], "seed": 7})
        scope, body = neuron.asked[0]
        assert json.loads(body)["zzz"] == [1.0, "é"]
        assert not any(b"hx_live" in value for _, value in scope["headers"])


async def test_tokens_are_counted_by_whoever_lends_the_model() -> None:
    async with pair() as (a, b, neuron):
        b.terms(lend_classes=("completion",))
        for body in (
            {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            {"model": "m", "prompt": "hi"},
        ):
            answer = await a.post("/v1/tokenize", body)
            assert answer.status == 200, answer.json
            assert json.loads(neuron.asked[-1][1]) == body
            assert neuron.asked[-1][0]["path"] == "/v1/tokenize"
        answer = await a.post("/v1/detokenize", {"model": "m", "tokens": [1]})
        assert answer.status == 200, answer.json
        both = await a.post("/v1/tokenize", {"model": "m", "prompt": "a", "messages": []})
        assert (both.status, both.error["param"]) == (400, "messages")


async def test_models_of_others_are_listed_with_their_owner() -> None:
    async with pair() as (a, b, _):
        (entry,) = (await a.get("/v1/models")).json["data"]
        assert (entry["id"], entry["owned_by"], entry["state"]) == ("m", "b", "loaded")
        assert (await b.get("/v1/models/m")).json["owned_by"] == "helexa"
        assert (await a.get("/readyz")).status == 200


async def test_the_terms_flip_and_the_next_request_is_refused_with_the_rule() -> None:
    async with pair() as (a, b, neuron):
        assert (await a.ask("m")).status == 200
        b.terms(lend_classes=("!chat_*",))
        # Its door says so at once, before the new offers are told.
        answer = await a.ask("m")
        assert answer.status == 503
        assert answer.error["code"] == "no_capacity"
        rule = "lends no chat_interactive to other operators (lend_classes)"
        assert rule in answer.error["message"]
        assert "cortex b" in answer.error["message"]
        await a.until(lambda: bool(a.peers._peers[b.node].told.withheld))  # type: ignore[union-attr]
        answer = await a.ask("m")
        assert answer.error["message"] == f"Nobody can serve 'm' now: cortex b {rule}."
        assert (a.count("out", "not_lent"), b.count("in", "not_lent")) == (1, 1)
        b.terms()
        await a.until(lambda: not a.peers._peers[b.node].told.withheld)  # type: ignore[union-attr]
        assert (await a.ask("m")).status == 200
        assert len(neuron.asked) == 2


async def test_whoever_is_not_trusted_enough_learns_the_level_and_no_models() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b") as b:
        await b.neuron(model("m"))
        mesh.trust[b.node, a.node] = Trust.KNOWN
        await a.link(b)
        await a.until(lambda: a.peers.note(b.node) != "")
        assert a.peers.note(b.node) == "lends to trusted or own, not to known (lend_to)"
        assert a.peers.offered_by(b.node) == ()
        assert (await a.ask("m")).status == 503  # No neuron, and nobody who offers anything.
        a.record_of(b, "m")
        assert (a.peers.offered_by(b.node), a.peers.withheld_by(b.node)) == ((), ("m",))
        answer = await a.ask("m")
        assert "cortex b lends to trusted or own, not to known (lend_to)" in answer.error["message"]
        mesh.trust[b.node, a.node] = Trust.TRUSTED
        b.peers.reconsider(lambda node: mesh.stands(b.node, node))
        await a.until_offered("m", by=b)
        assert a.peers.withheld_by(b.node) == ()
        assert (await a.ask("m")).status == 200


async def test_a_peer_that_is_not_trusted_here_is_not_asked() -> None:
    async with pair() as (a, b, neuron):
        a.world.trust[a.node, b.node] = Trust.KNOWN
        a.peers.reconsider(lambda node: a.world.stands(a.node, node))
        message = (await a.ask("m")).error["message"]
        assert "cortex b is known here, and requests go to trusted or own alone" in message
        assert "(borrow_from)" in message
        a.terms(borrow_from="known")
        assert (await a.ask("m")).status == 200
        assert len(neuron.asked) == 1


async def test_a_request_that_is_the_clients_fault_comes_back_as_the_neuron_said_it() -> None:
    async with pair() as (a, _, neuron):
        neuron.status = 400
        neuron.refusal = refusal(400, "context_length_exceeded").partition(b"\r\n\r\n")[2]
        answer = await a.ask("m")
        assert answer.status == 400
        assert answer.body == neuron.refusal


async def test_a_peer_that_has_no_capacity_is_named_in_one_own_refusal() -> None:
    async with pair() as (a, _, neuron):
        neuron.status = 503
        neuron.refusal = refusal(503, "draining").partition(b"\r\n\r\n")[2]
        answer = await a.ask("m")
        assert answer.status == 503
        assert answer.error["code"] == "no_capacity"
        assert "cortex b said: said draining" in answer.error["message"]
        assert answer.headers["retry-after"] == "2"
        assert "x-helexa-served-by" not in answer.headers


async def test_a_peer_that_fails_is_replaced_by_another_and_nobody_sees_it() -> None:
    async with pair() as (a, _, first), member(a.world, "c") as c:
        second = await c.neuron(model("m"))
        await a.link(c)
        await a.until_offered("m", by=c)
        for neuron in (first, second):
            neuron.status = 503
            neuron.refusal = refusal(503, "draining").partition(b"\r\n\r\n")[2]
        second.status = 200
        for _ in range(6):
            answer = await a.ask("m", stream=True)
            assert served_by(answer) == "c"
            assert answer.events[-1] == "[DONE]"


async def test_a_client_that_leaves_ends_the_generation_at_the_other_cortex() -> None:
    async with pair() as (a, b, neuron):
        neuron.holds_at = 1
        response = await a.send("m", stream=True)
        assert await response.chunk()
        response.close()
        with anyio.fail_after(5):
            await neuron.client_left.wait()
        await a.until_idle(b)


async def test_a_client_that_leaves_before_the_first_byte_ends_it_too() -> None:
    async with pair() as (a, b, neuron):
        neuron.holds_at = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(a.ask, "m")
            await neuron.began.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await neuron.client_left.wait()
        await a.until_idle(b)


async def test_a_peer_lost_in_the_middle_of_a_stream_ends_it_with_an_error_event() -> None:
    async with pair() as (a, b, neuron):
        neuron.holds_at = 1
        with await a.send("m", stream=True) as response:
            assert b"one" in await response.chunk()
            a.world.network.vanish(b.mesh.transports["memory"])
            rest = await response.read(1 << 20)
        assert b'"code":"stream_interrupted"' in rest
        assert b"[DONE]" not in rest
        assert a.count("out", "peer_lost") == 1


async def test_a_peer_lost_before_the_first_byte_is_named_as_gone() -> None:
    async with pair() as (a, b, neuron):
        neuron.holds_at = -1
        answers = []

        async def ask() -> None:
            answers.append(await a.ask("m", stream=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await neuron.began.wait()
            a.world.network.vanish(b.mesh.transports["memory"])
        (answer,) = answers
        assert answer.status == 503
        assert "cortex b is gone for 0 s: link lost" in answer.error["message"]
        answer = await a.ask("m")
        assert answer.error["code"] == "no_capacity"
        assert "Nobody can serve 'm' now: cortex b is gone for 0 s" in answer.error["message"]


async def test_a_peer_that_lost_a_request_and_is_there_is_not_quoted() -> None:
    async with pair() as (a, b, _):

        async def drop(_stream: Stream, _asker: NodeId) -> None:
            return

        b.peers.open_door(drop)
        answer = await a.ask("m")
        assert answer.error["message"] == "Nobody could serve 'm': cortex b was lost."


async def test_a_peer_that_comes_back_serves_again() -> None:
    async with pair() as (a, b, _):
        session = a.mesh.session_with(b.node)
        assert session is not None
        await session.close(reason="a test")
        await a.until_lost(b)
        assert (await a.ask("m")).status == 503
        await a.link(b)
        await a.until_offered("m", by=b)
        assert (await a.ask("m")).status == 200


async def test_what_happens_is_told_once_and_not_with_every_free_slot() -> None:
    async with pair() as (a, b, _):
        told = a.peers._peers[b.node].told
        b.terms(price_prompt=4)
        await a.until(lambda: a.peers._peers[b.node].told is not told)
        session = a.mesh.session_with(b.node)
        assert session is not None
        await session.close(reason="a test")
        await a.until(lambda: "cortex_lost b" in a.events)
        assert a.events == ["cortex_linked b", "cortex_offers b", "cortex_lost b"]


async def test_of_two_sessions_one_may_end_and_nothing_is_lost() -> None:
    async with pair() as (a, b, _):
        first = a.mesh.session_with(b.node)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.mesh.keep_connected, a.mesh.ticket())
            await a.until_sessions(b, 2)
            second = a.mesh.session_with(b.node)
            assert first is not None
            assert second is not None
            assert second is not first
            # Closed at the far end, so that here both seem to live for a moment more.
            await second.close(reason="one of two")
            assert (await a.ask("m")).status == 200
            await a.until_sessions(b, 1)
            assert a.mesh.session_with(b.node) is first
            assert (await a.ask("m")).status == 200
            tasks.cancel_scope.cancel()


async def test_one_that_is_known_by_its_record_alone_is_connected_to_for_the_request() -> None:
    async with (
        world() as mesh,
        member(mesh, "a", connects=True) as a,
        member(mesh, "b") as b,
    ):
        await b.neuron(model("m"))
        a.record_of(b, "m")
        assert (await a.get("/v1/models")).json["data"][0]["owned_by"] == "b"
        assert a.mesh.session_with(b.node) is None
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await a.ask("m")).status)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        assert answers == [200] * 5
        assert len(a.mesh.sessions) == 1


async def test_one_that_cannot_be_reached_is_named_and_not_tried_by_each_request() -> None:
    async with world() as mesh, member(mesh, "a", connects=True) as a:
        async with member(mesh, "b") as b:
            a.record_of(b, "m")
        tried = []

        async def off(other: Member) -> Session:
            tried.append(other)
            raise OSError("the machine is off")

        a.link = off  # type: ignore[method-assign]
        first = await a.ask("m")
        assert "cortex b is gone for 0 s: it cannot be reached" in first.error["message"]
        assert (await a.ask("m")).status == 503
        assert len(tried) == 1
        # A newer record is a sign of life.
        a.record_of(b, "m", sequence=2)
        assert (await a.ask("m")).status == 503
        assert len(tried) == 2


async def test_a_link_that_does_not_come_is_waited_for_once_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "CONNECT_S", 0.1)
    async with world() as mesh, member(mesh, "a", connects=True) as a:
        async with member(mesh, "b") as b:
            a.record_of(b, "m")
        tried = []

        async def never(other: Member) -> Session:
            tried.append(other)
            await anyio.sleep_forever()
            raise AssertionError

        a.link = never  # type: ignore[method-assign]
        messages = []

        async def ask() -> None:
            messages.append((await a.ask("m")).error["message"])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert all("no session within 0.1 s" in message for message in messages)
        assert len(tried) == 1


async def test_what_a_forgotten_peer_was_asked_by_is_gone_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "GONE_MAX", 0)
    async with pair() as (a, b, _):
        assert (await a.ask("m")).status == 200
        assert list(a.peers._lanes._lanes) == [b.node]
        session = a.mesh.session_with(b.node)
        assert session is not None
        await session.close(reason="a test")
        await a.until(lambda: b.node not in a.peers._peers)
        assert not a.peers._lanes._lanes
        await a.link(b)
        await a.until_offered("m", by=b)
        assert (await a.ask("m")).status == 200


async def test_a_refusal_names_own_neurons_and_peers_together() -> None:
    async with pair(borrow_models=("!m",)) as (a, _, _):
        neuron = await a.neuron(model("m"))
        a.neurons.post(NeuronLeft(node=neuron.node, reason="unplugged", now_s=0))
        message = (await a.ask("m")).error["message"]
        assert "neuron a-neuron is gone for" in message
        assert "unplugged; cortex b is not asked for m (borrow_models)." in message


async def test_what_was_tried_and_what_was_ruled_out_are_told_together() -> None:
    async with pair() as (a, b, _), member(a.world, "c") as c:
        a.record_of(c, "m")
        other = await a.neuron(model("m"))
        other.status, other.refusal = 503, refusal(503, "draining").partition(b"\r\n\r\n")[2]
        message = (await a.ask("m", policy="not=b; order=fastest")).error["message"]
        # Only own neurons were tried: their own words, as without any peer.
        assert message == "said draining"
        a.world.trust[a.node, c.node] = Trust.KNOWN
        a.peers.reconsider(lambda node: a.world.stands(a.node, node))
        a.world.network.vanish(b.mesh.transports["memory"])
        message = (await a.ask("m")).error["message"]
        assert message.startswith("Nobody could serve 'm': neuron a-neuron said: said draining; ")
        assert "cortex b is gone for 0 s: link lost" in message
        assert "cortex c is known here" in message


async def test_a_cortex_without_a_door_says_so_and_serves_nobody() -> None:
    async with world() as mesh, member(mesh, "a") as a, member(mesh, "b", lends=False) as b:
        await b.neuron(model("m"))
        await a.link(b)
        a.record_of(b, "m")
        await a.until(lambda: a.peers.note(b.node) != "")
        answer = await a.ask("m")
        assert answer.error["code"] == "no_capacity"
        assert "cortex b takes no requests of other cortexes" in answer.error["message"]
        assert b.peers.public_offers() == ()
        # And one that asks all the same is not served.
        with pytest.raises(ConnectionResetError):
            await a.at_door_of(b, [])


async def test_rates_are_limited_for_an_operator_and_say_when_to_come_again() -> None:
    async with pair() as (a, b, neuron):
        b.terms(lend_rate_per_minute=2)
        assert [(await a.ask("m")).status for _ in range(2)] == [200, 200]
        answer = await a.ask("m")
        assert answer.status == 503
        assert "2 requests a minute" in answer.error["message"]
        assert answer.headers["retry-after"] == "30"
        assert b.count("in", "rate_limit_exceeded") == 1
        b.ticks.now_s += 30
        assert (await a.ask("m")).status == 200
        assert len(neuron.asked) == 3


async def test_requests_at_once_are_limited_for_an_operator_and_given_back() -> None:
    async with pair() as (a, b, neuron):
        b.terms(lend_concurrency=1)
        neuron.holds_at = 1
        with await a.send("m", stream=True) as response:
            await response.chunk()
            answer = await a.ask("m")
            assert "1 requests under way here (lend_concurrency)" in answer.error["message"]
            neuron.go.set()
            assert b"[DONE]" in await response.read(1 << 20)
        assert (await a.ask("m")).status == 200


async def test_own_nodes_are_not_held_to_what_others_get() -> None:
    async with pair() as (a, b, _):
        b.terms(lend_to="own", lend_concurrency=0, lend_classes=("!*",), lend_models=("!*",))
        assert "(lend_to)" in (await a.ask("m")).error["message"]
        for here, other in ((a, b), (b, a)):
            a.world.trust[here.node, other.node] = Trust.OWN
            here.peers.reconsider(lambda node, here=here: a.world.stands(here.node, node))
        await a.until_offered("m", by=b)
        assert (await a.ask("m")).status == 200
