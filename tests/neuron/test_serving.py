"""Requests through the neuron's API to children that behave, and to children that do not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.neuron.bench import PATIENCE_S, Bench, Journal, Reply, bench, events_of

from helexa.testing.fake_runtime import FakeRuntime
from helexa.util.background import background

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM: dict[str, Any] = {**ASK, "stream": True}


def fake(journal: Journal | None, *flags: str, **more: Any) -> FakeRuntime:
    return FakeRuntime(flags={"m": flags}, journal=journal.path if journal else None, **more)


async def test_a_stream_comes_as_the_runtime_sent_it_and_without_unasked_usage() -> None:
    async with bench(fake(None), {"m": 1}) as live:
        reply = await live.post(CHAT, STREAM, headers={"x-helexa-request-id": "req_abc"})
    assert reply.status == 200
    assert reply.headers[b"content-type"].startswith(b"text/event-stream")
    assert reply.headers[b"x-helexa-source"] == b"runtime"
    assert reply.headers[b"x-helexa-request-id"] == b"req_abc"
    *chunks, done = reply.events
    assert done == "[DONE]"
    assert [c["choices"][0]["delta"]["content"] for c in chunks] == ["t0 ", "t1 ", "t2 "]
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("asked", ["body", "header"])
async def test_usage_comes_to_who_asked_for_it(asked: str) -> None:
    body, headers = dict(STREAM), {}
    if asked == "body":
        body["stream_options"] = {"include_usage": True}
    else:
        headers["x-helexa-usage"] = "1"
    async with bench(fake(None), {"m": 1}) as live:
        *_, last, done = (await live.post(CHAT, body, headers=headers)).events
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


async def test_the_child_always_streams_and_a_plain_client_gets_it_whole(
    journal: Journal,
) -> None:
    async with bench(fake(journal), {"m": 1}) as live:
        reply = await live.post(CHAT, {**ASK, "temperature": 0.25, "x_unknown": [1, {"a": None}]})
        sent = json.loads((await journal.heard("request"))["body"])
    message = reply.json["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", "t0 t1 t2 ")
    assert reply.json["object"] == "chat.completion"
    assert reply.json["usage"]["total_tokens"] == 10
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["temperature"] == 0.25
    assert sent["x_unknown"] == [1, {"a": None}]
    assert sent["messages"] == ASK["messages"]


async def test_completions_and_embeddings_have_their_own_shapes() -> None:
    async with bench(fake(None), {"m": 1}) as live:
        text = await live.post("/v1/completions", {"model": "m", "prompt": "hi"})
        vector = await live.post("/v1/embeddings", {"model": "m", "input": "hi"})
    assert text.json["choices"][0]["text"] == "t0 t1 t2 "
    assert text.json["object"] == "text_completion"
    assert vector.json["data"][0]["embedding"] == [0.5, -0.5]


BROKEN = [
    (("--dies-after", "1"), "runtime_exited"),
    (("--answers", "half-json"), "runtime_malformed"),
    (("--answers", "no-sse"), "runtime_malformed"),
    (("--answers", "error-event"), "runtime_refused"),
    (("--answers", "cut"), "runtime_exited"),
]
NONSENSE = [
    (("--answers", "html"), "runtime_malformed"),
    (("--answers", "status-500"), "runtime_refused"),
]


@pytest.mark.parametrize(("flags", "code"), BROKEN)
async def test_a_stream_that_breaks_ends_with_an_error_event_and_never_with_done(
    flags: tuple[str, ...], code: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    runtime = fake(None, "--holds-after", "1", "--until", str(gate), *flags)
    async with bench(runtime, {"m": 1}) as live:
        with anyio.fail_after(PATIENCE_S):
            body = json.dumps(STREAM).encode()
            with await live.client.request("POST", CHAT, (), body) as response:
                assert response.status == 200
                heard = await response.chunk()
                gate.touch()
                heard += await response.read(1 << 20)
    first, *_, last = events_of(heard)
    assert first["choices"][0]["delta"]["content"] == "t0 "
    assert last["error"]["code"] == code
    assert b"[DONE]" not in heard


@pytest.mark.parametrize(("flags", "code"), [*BROKEN, *NONSENSE])
async def test_a_whole_answer_that_breaks_is_a_bad_gateway(
    flags: tuple[str, ...], code: str
) -> None:
    async with bench(fake(None, *flags), {"m": 1}) as live:
        reply = await live.post(CHAT, ASK)
    assert (reply.status, reply.error["code"]) == (502, code)
    assert reply.headers[b"x-helexa-source"] == b"neuron"


@pytest.mark.parametrize(("flags", "code"), NONSENSE)
async def test_a_stream_that_never_begins_is_a_bad_gateway(
    flags: tuple[str, ...], code: str
) -> None:
    async with bench(fake(None, *flags), {"m": 1}) as live:
        reply = await live.post(CHAT, STREAM)
    assert (reply.status, reply.error["code"]) == (502, code)


@pytest.mark.parametrize(
    ("answers", "fault", "counts"),
    [
        ("usage-twice", "usage_twice", (7, 3)),
        ("usage-wrong", "usage_wrong", (4096, 5)),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_counts_that_cannot_be_are_brought_down_and_named(
    answers: str, fault: str, counts: tuple[int, int], stream: bool
) -> None:
    asked = {**ASK, "max_tokens": 5, "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    async with bench(fake(None, "--answers", answers), {"m": 1}) as live:
        reply = await live.post(CHAT, asked)
        metrics = (await live.get("/metrics")).content.decode()
    usage = (reply.events[-2] if stream else reply.json)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == counts
    assert usage["total_tokens"] == sum(counts)
    assert usage.get("fault", fault) == fault
    assert f'helexa_neuron_runtime_faults_total{{fault="{fault}",model="m"}} 1' in metrics


async def test_an_answer_without_counts_is_an_answer_and_the_operator_hears_of_it() -> None:
    async with bench(fake(None, "--answers", "usage-missing"), {"m": 1}) as live:
        reply = await live.post(CHAT, ASK)
        metrics = (await live.get("/metrics")).content.decode()
    assert reply.json["choices"][0]["message"]["content"] == "t0 t1 t2 "
    assert "usage" not in reply.json
    assert 'helexa_neuron_runtime_faults_total{fault="usage_missing",model="m"} 1' in metrics


async def test_vectors_that_are_half_a_json_are_a_bad_gateway_and_wrong_counts_are_named() -> None:
    ask = {"model": "m", "input": ["a", "b"]}
    async with bench(fake(None, "--answers", "half-json"), {"m": 1}) as live:
        reply = await live.post("/v1/embeddings", ask)
    assert (reply.status, reply.error["code"]) == (502, "runtime_malformed")
    async with bench(fake(None, "--answers", "usage-wrong"), {"m": 1}) as live:
        usage = (await live.post("/v1/embeddings", ask)).json["usage"]
    assert (usage["prompt_tokens"], usage["fault"]) == (2 * 4096, "usage_wrong")


async def test_the_metrics_name_what_a_runtime_did_wrong() -> None:
    async with bench(fake(None, "--answers", "html"), {"m": 1}) as live:
        await live.post(CHAT, ASK)
        metrics = (await live.get("/metrics")).content.decode()
    assert 'helexa_neuron_runtime_faults_total{fault="runtime_malformed",model="m"} 1' in metrics


async def test_after_a_crash_in_a_stream_the_next_request_is_served(journal: Journal) -> None:
    async with bench(fake(journal, "--holds-after", "1"), {"m": 1}) as live:
        pid = 0
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                reply = await live.post(CHAT, STREAM)
                assert reply.events[-1]["error"]["code"] == "runtime_exited"

            tasks.start_soon(ask)
            pid = (await journal.heard("started"))["pid"]
            await journal.heard("holding")
            os.kill(pid, signal.SIGKILL)
        vector = await live.post("/v1/embeddings", {"model": "m", "input": "hi"})
        assert vector.status == 200
        assert (await journal.heard("started"))["pid"] != pid


async def test_a_request_that_finds_its_runtime_freshly_dead_waits_for_the_next(
    journal: Journal,
) -> None:
    async with bench(fake(journal), {"m": 1}) as live:
        assert (await live.post(CHAT, ASK)).status == 200
        for _ in range(3):
            os.kill((await journal.heard("started"))["pid"], signal.SIGKILL)
            # At once: the neuron has not been told of the death yet.
            assert (await live.post(CHAT, ASK)).status == 200


async def leave_early(live: Bench, journal: Journal, body: dict[str, Any]) -> None:
    """Ask, wait until the child works on it, and hang up."""
    with await live.client.send("POST", CHAT, (), json.dumps(body).encode()):
        await journal.heard("holding")


@pytest.mark.parametrize("body", [STREAM, ASK], ids=["streamed", "whole"])
async def test_a_client_that_leaves_stops_its_generation_and_frees_the_slot(
    journal: Journal, body: dict[str, Any]
) -> None:
    async with bench(fake(journal, "--holds-after", "1"), {"m": 1}, slots=1) as live:
        await leave_early(live, journal, body)
        await journal.heard("disconnected")
        replica = await live.roster.replica("m")
        with anyio.fail_after(PATIENCE_S):
            await replica.gate.emptied()
        assert replica.gate.running == 0
        assert (await live.post("/v1/embeddings", {"model": "m", "input": "x"})).status == 200


async def test_a_cancel_by_request_id_stops_the_generation(journal: Journal) -> None:
    async with bench(fake(journal, "--holds-after", "1"), {"m": 1}) as live:

        async def ask() -> None:
            reply = await live.post(CHAT, STREAM, headers={"x-helexa-request-id": "req_1"})
            assert reply.events[-1]["error"]["message"] == "This request was cancelled."

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await journal.heard("holding")
            assert not live.executor.cancel("req_2")
            assert live.executor.cancel("req_1")
            await journal.heard("disconnected")
        assert not live.executor.cancel("req_1")


async def test_a_full_queue_refuses_the_next_with_429(journal: Journal) -> None:
    runtime = fake(journal, "--holds-after", "1")
    refused: list[Reply] = []
    async with bench(runtime, {"m": 1}, slots=1, queue_max=1) as live, background() as tasks:
        done = anyio.Event()

        async def ask() -> None:
            # One of the two waits when the other comes; which, nobody needs to know.
            refused.append(await live.post(CHAT, STREAM))
            done.set()

        tasks.start_soon(live.post, CHAT, STREAM)
        await journal.heard("holding")
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        with anyio.fail_after(PATIENCE_S):
            await done.wait()
    assert len(refused) == 1
    assert (refused[0].status, refused[0].error["code"]) == (429, "queue_full")
    assert int(refused[0].headers[b"retry-after"]) > 0


async def test_a_silent_stream_is_kept_alive_while_the_model_loads(
    journal: Journal, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    runtime = fake(journal, "--load-waits-for", str(gate))
    async with bench(runtime, {"m": 1}, keepalive_s=0.05) as live:
        with anyio.fail_after(PATIENCE_S):
            with await live.client.request(
                "POST", CHAT, (), json.dumps(STREAM).encode()
            ) as response:
                assert response.status == 200
                first = await response.chunk()
                assert first.startswith(b": keepalive\n\n")
                gate.touch()
                rest = await response.read(1 << 20)
    assert events_of(rest)[-1] == "[DONE]"


async def test_a_silent_stream_is_kept_alive_while_the_runtime_thinks(journal: Journal) -> None:
    async with bench(fake(journal, "--holds-after", "1"), {"m": 1}, keepalive_s=0.05) as live:
        await live.roster.load("m")
        with anyio.fail_after(PATIENCE_S):
            with await live.client.request(
                "POST", CHAT, (), json.dumps(STREAM).encode()
            ) as response:
                heard = b""
                while b": keepalive\n\n" not in heard:
                    heard += await response.chunk()
    assert heard.startswith(b"data: {")


async def test_a_load_that_fails_after_keepalives_is_told_in_the_stream(tmp_path: Path) -> None:
    runtime = fake(None, "--never-ready", ready_within_s=0.5)
    async with bench(runtime, {"m": 1}, keepalive_s=0.05) as live:
        reply = await live.post(CHAT, STREAM)
    assert reply.status == 200
    assert reply.events[-1]["error"]["code"] == "runtime_exited"


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{nope", 400, "invalid_body", None),
        (b"[]", 400, "invalid_body", None),
        (b'{"model":"m","messages":"\xff"}', 400, "invalid_body", "messages"),
        (b'{"model":"m","x":' + b"[" * 100_000, 400, "invalid_body", None),
        ({"messages": ASK["messages"]}, 400, "invalid_body", "model"),
        ({**ASK, "model": 7}, 400, "invalid_body", "model"),
        ({"model": "m"}, 400, "invalid_body", "messages"),
        ({**ASK, "messages": []}, 400, "invalid_body", "messages"),
        ({**ASK, "messages": "hi"}, 400, "invalid_body", "messages"),
        ({**ASK, "messages": [{"content": "x"}]}, 400, "invalid_body", "messages[0].role"),
        ({**ASK, "stream": "yes"}, 400, "invalid_body", "stream"),
        ({**ASK, "max_tokens": "5"}, 400, "invalid_body", "max_tokens"),
        ({**ASK, "model": "other"}, 404, "model_not_found", "model"),
        ({**ASK, "model": "../../etc/passwd"}, 404, "model_not_found", "model"),
    ],
)
async def test_a_bad_body_is_refused_with_the_field_and_nothing_is_loaded(
    body: Any, status: int, code: str, param: str | None
) -> None:
    async with bench(fake(None), {"m": 1}) as live:
        reply = await live.post(CHAT, body)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)
        assert live.roster.granted == {}


async def test_a_body_over_the_limit_is_refused_unread() -> None:
    async with bench(fake(None), {"m": 1}, body_bytes_max=1024) as live:
        reply = await live.post(CHAT, b"x" * 2000)
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")


async def test_other_urls_and_methods_have_typed_answers() -> None:
    async with bench(fake(None), {"m": 1}) as live:
        unknown = await live.get("/v1/nothing")
        wrong = await live.get(CHAT)
    assert (unknown.status, unknown.error["code"]) == (404, "unknown_url")
    assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")


async def test_models_are_listed_with_their_state() -> None:
    async with bench(fake(None), {"m": 1, "n": 1}) as live:
        await live.roster.load("m")
        listed = (await live.get("/v1/models")).json
        one = (await live.get("/v1/models/n")).json
    assert listed["object"] == "list"
    states = {each["id"]: each["helexa"]["state"] for each in listed["data"]}
    assert states == {"m": "loaded", "n": "unloaded"}
    assert one["id"] == "n"
    assert one["object"] == "model"


async def test_models_are_loaded_and_unloaded_over_http() -> None:
    async with bench(fake(None), {"m": 1}) as live:
        loaded = await live.post("/api/v1/models/m/load", b"")
        assert loaded.json["state"] == "loaded"
        unloaded = await live.post("/api/v1/models/m/unload", b"")
        assert unloaded.json["state"] == "unloaded"
        missing = await live.post("/api/v1/models/..%2Fm/load", b"")
        assert missing.status == 404


async def test_the_metrics_count_what_happened() -> None:
    async with bench(fake(None), {"m": 1}) as live:
        await live.post(CHAT, STREAM)
        await live.post(CHAT, {**ASK, "model": "x"})
        text = (await live.get("/metrics")).content.decode()
    assert 'requests_total{endpoint="chat",model="m",outcome="ok"} 1.0' in text
    assert 'outcome="model_not_found"} 1.0' in text
    assert 'helexa_neuron_tokens_total{class="completion",model="m"} 3.0' in text
    assert 'helexa_neuron_loaded{model="m"} 1.0' in text
