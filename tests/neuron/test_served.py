"""Models that servers of others have: found, asked, given up and found again."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from tests.neuron.bench import PATIENCE_S
from tests.neuron.other_servers import (
    HELLO,
    USAGE,
    Asked,
    Say,
    Scripted,
    data,
    delta,
    scripted,
    stream,
    whole,
)
from tests.neuron.test_app import api, ask, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.models import served, server_look
from helexa.neuron.settings import ModelSettings, ServerSettings
from helexa.runtime.openai_compatible import address
from helexa.testing import tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


@asynccontextmanager
async def neuron(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Neuron, Pool]]:
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    usual = settings(tmp_path, folder, context_tokens=4096)
    wanted = msgspec.structs.replace(usual, **more)
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        yield live, pool


def server(other: Scripted, **more: Any) -> dict[str, ServerSettings]:
    return {"other": ServerSettings(url=other.url, **more)}


async def state(live: Neuron, model: str, wanted: str) -> Any:
    """The capability, once it is in that state."""
    changed = anyio.Event()

    def look() -> None:
        nonlocal changed
        changed.set()

    live.roster.observe(look)
    with anyio.fail_after(PATIENCE_S):
        while True:
            changed = anyio.Event()
            found = {one.model: one for one in live.roster.capabilities()}.get(model)  # type: ignore[call-overload]
            if found is not None and found.state.value == wanted:
                return found
            await changed.wait()


async def test_a_server_s_models_are_found_and_answer_under_their_names_here(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    async with scripted("there", chat_completions=lambda _: stream(*HELLO)) as other:
        wanted = server(other, models={"here": "there"}, key_file=key, context_tokens=1000, slots=7)
        async with neuron(tmp_path, servers=wanted) as (live, pool):
            found = await state(live, "here", "unloaded")
            reply = await ask(pool, "POST", CHAT, chat("here"))
            streamed = await ask(pool, "POST", CHAT, chat("here", stream=True))
            loaded = await state(live, "here", "loaded")
    assert (found.runtime, found.context_tokens, found.slots) == ("openai_compatible", 1000, 7)
    assert (found.memory_bytes, found.digest) == (0, "")
    assert reply.json["choices"][0]["message"]["content"] == "hello"
    assert reply.json["model"] == "here"
    assert reply.json["usage"]["completion_tokens"] == 2
    *chunks, done = streamed.events
    assert done == "[DONE]"
    assert {one["model"] for one in chunks} == {"here"}
    assert loaded.memory_bytes == 0
    asked = other.of(CHAT)[0]
    assert asked.headers["authorization"] == "Bearer s3cret"
    assert asked.json["model"] == "there"
    assert asked.json["stream_options"] == {"include_usage": True}


async def test_without_names_all_that_it_lists_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted("a:1b", "org/b", "no good name") as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "org/b", "unloaded")
        listed = await ask(pool, "GET", "/v1/models")
        other.models.append({"id": "new"})
        monkeypatch.setattr(served, "FRESH_S", 0.0)
        other.on[CHAT] = lambda _: stream(*HELLO)
        # Who asks for a name that is not known has the servers asked again.
        new = await ask(pool, "POST", CHAT, chat("new"))
        none = await ask(pool, "POST", CHAT, chat("none"))
    assert {one["id"] for one in listed.json["data"]} == {"a:1b", "org/b"}
    assert (new.status, none.status) == (200, 404)


async def test_a_file_here_wins_over_a_model_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").mkdir()
    tiny_gguf.write(tmp_path / "models" / "same.gguf")
    async with (
        scripted("same", "other") as other,
        neuron(tmp_path, servers=server(other)) as (live, _),
    ):
        await state(live, "other", "unloaded")
        found = {one.model: one for one in live.roster.capabilities()}
    assert found["same"].runtime == "llama_cpp"  # type: ignore[index]
    assert "hidden by a file" in caplog.text


async def test_a_server_that_is_down_holds_nobody_up_and_is_back_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "AGAIN_S", 0.05)
    async with scripted("there") as first:
        port, wanted = first.port, server(first, models={"here": "there"})
    async with neuron(tmp_path, servers=wanted) as (live, pool):
        failed = await state(live, "here", "failed")
        refused = await ask(pool, "POST", CHAT, chat("here"))
        async with scripted("there", port=port, chat_completions=lambda _: stream(*HELLO)):
            await state(live, "here", "unloaded")
            reply = await ask(pool, "POST", CHAT, chat("here"))
    assert failed.reason == "the server other: it cannot be reached"
    assert refused.status == 503
    assert "cannot be reached" in refused.error["message"]
    assert reply.status == 200


async def test_a_name_that_the_server_does_not_have_says_so(tmp_path: Path) -> None:
    async with scripted("there") as other:
        wanted = server(other, models={"here": "elsewhere"})
        async with neuron(tmp_path, servers=wanted) as (live, _):
            failed = await state(live, "here", "failed")
    assert failed.reason == "the server other has no model 'elsewhere'"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (whole({"error": {"message": "bad key sk-1"}}, status=401), "neuron's key (401)"),
        (whole(b"<html>", kind="text/html"), "not JSON"),
        (whole({"data": "x"}), "no list of models"),
        (whole({}, status=308, headers=["location: /x"]), "sends elsewhere (308)"),
        (whole({}, status=404), "up to before /chat/completions"),
        (whole({}, status=500), "/models with 500"),
    ],
)
async def test_what_is_wrong_with_a_server_is_told_to_the_operator(
    answer: bytes, words: str
) -> None:
    async with scripted(models=lambda _: [answer]) as other:
        found = served.Server(
            name="other",
            settings=ServerSettings(url=other.url),
            place=address.parse(other.url),
        )
        async with Pool(address.parse(other.url).reach).running() as pool:
            with pytest.raises(server_look.Down) as down:
                await server_look.Look(found).at(pool)
    assert words in str(down.value)
    assert "sk-1" not in str(down.value)


async def test_a_neuron_s_own_cortex_is_no_server_of_its() -> None:
    listed = whole({"data": [{"id": "a"}]}, headers=["x-helexa-node: c1"])
    async with scripted(models=lambda _: [listed]) as other:
        place = address.parse(other.url)
        found = served.Server(name="other", settings=ServerSettings(url=other.url), place=place)
        async with Pool(place.reach).running() as pool:
            seen = await server_look.Look(found, lambda node: node == "c2").at(pool)
            with pytest.raises(server_look.Down, match="this neuron's own"):
                await server_look.Look(found, lambda node: node == "c1").at(pool)
    assert set(seen.models) == {"a"}


async def test_a_server_without_a_list_is_taken_at_the_operator_s_word(tmp_path: Path) -> None:
    def no_list(_: Asked) -> list[bytes]:
        return [whole({"detail": "Not Found"}, status=404)]

    said: dict[str, Say] = {"models": no_list, "chat_completions": lambda _: stream(*HELLO)}
    async with scripted(**said) as other:
        wanted = server(other, models={"here": "there"}, offers=("chat", "tools"))
        async with neuron(tmp_path, servers=wanted) as (live, pool):
            found = await state(live, "here", "unloaded")
            reply = await ask(pool, "POST", CHAT, chat("here"))
    assert found.tools
    assert reply.json["choices"][0]["message"]["content"] == "hello"


# --- what is OpenAI-compatible by half

CRLF = [one.replace(b"\n", b"\r\n") for one in HELLO]
NO_SPACE = [one.replace(b"data: ", b"data:") for one in HELLO]
ROLE_ONLY = [
    data(delta("", choices=[{"index": 0, "delta": {"role": "assistant"}}])) + b"\n\n",
    *HELLO,
]
NULL_USAGE = [
    data(delta("hel", usage=None)) + b"\n\n",
    data(delta("lo", usage=None)) + b"\n\n",
    *HELLO[2:],
]
ALWAYS_COUNTED = [
    data(delta("hel", usage={**USAGE, "completion_tokens": 1})) + b"\n\n",
    data(delta("lo", usage=USAGE)) + b"\n\n",
    data(delta(None, "stop", usage=USAGE)) + b"\n\n",
    b"data: [DONE]\n\n",
]
NO_LAST_LINE = [*HELLO[:4], b"data: [DONE]"]
COMMENTS = [b": OPENROUTER PROCESSING\n\n", *HELLO]
NAMED = [b"event: message\nid: 1\n" + one for one in HELLO]


def json_answer(_: Asked) -> list[bytes]:
    message = {"role": "assistant", "content": "hello"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "model": "there", "choices": [choice]}
    return [whole({**answer, "usage": USAGE})]


def until_closed(_: Asked) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return [head, *HELLO]


HALF: dict[str, Say] = {
    "crlf": lambda _: stream(*CRLF),
    "no space": lambda _: stream(*NO_SPACE),
    "role only": lambda _: stream(*ROLE_ONLY),
    "null usage": lambda _: stream(*NULL_USAGE),
    "always counted": lambda _: stream(*ALWAYS_COUNTED),
    "no done": lambda _: stream(*HELLO[:4]),
    "no last line": lambda _: stream(*NO_LAST_LINE),
    "comments": lambda _: stream(*COMMENTS),
    "named events": lambda _: stream(*NAMED),
    "in one piece": lambda _: stream(b"".join(HELLO)),
    "bytewise": lambda _: stream(*(bytes([one]) for one in b"".join(HELLO))),
    "json": json_answer,
    "until closed": until_closed,
}


@pytest.mark.parametrize("name", HALF)
async def test_half_an_openai_server_is_a_whole_one_behind_a_neuron(
    tmp_path: Path, name: str
) -> None:
    async with (
        scripted("there", chat_completions=HALF[name]) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("there"))
        body = chat("there", stream=True, stream_options={"include_usage": True})
        streamed = await ask(pool, "POST", CHAT, body)
    assert reply.status == 200, reply.content
    assert reply.json["choices"][0]["message"]["content"] == "hello"
    assert reply.json["choices"][0]["finish_reason"] == "stop"
    assert reply.json["usage"]["total_tokens"] == 5
    *chunks, counted, done = streamed.events
    assert done == "[DONE]"
    assert counted["usage"]["total_tokens"] == 5
    pieces = [choice for one in chunks for choice in one["choices"]]
    assert "".join(one["delta"].get("content") or "" for one in pieces) == "hello"
    assert [one["finish_reason"] for one in pieces if one.get("finish_reason")] == ["stop"]


COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def told(usage: Any) -> bytes:
    return data({"model": "other", "choices": [], "usage": usage}) + b"\n\n"


@pytest.mark.parametrize(
    "usage", ["x", {"prompt_tokens": -5, "completion_tokens": 1}, {"prompt_tokens": "many"}, [7]]
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_is_no_counts_does_not_reach_a_client(
    tmp_path: Path, usage: Any, streamed: bool
) -> None:
    said = stream(*HELLO[:3], told(usage), HELLO[4])
    async with (
        scripted("there", chat_completions=lambda _: said) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        more = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        reply = await ask(pool, "POST", CHAT, {**chat("there"), **more})
        metrics = await ask(pool, "GET", "/metrics")
    assert reply.status == 200
    assert b"usage" not in reply.content
    assert b'fault="usage_wrong",model="there"' in metrics.content


@pytest.mark.parametrize("streamed", [True, False])
async def test_counts_said_twice_are_shown_once_and_as_they_are(
    tmp_path: Path, streamed: bool
) -> None:
    said = stream(*HELLO[:3], told(COUNTS), told(COUNTS), HELLO[4])
    async with (
        scripted("there", chat_completions=lambda _: said) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        more = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        reply = await ask(pool, "POST", CHAT, {**chat("there"), **more})
        metrics = await ask(pool, "GET", "/metrics")
    counted = [one["usage"] for one in reply.events if "usage" in one] if streamed else None
    (usage,) = counted if counted is not None else (reply.json["usage"],)
    assert (usage["prompt_tokens"], usage["completion_tokens"], "fault" in usage) == (3, 2, False)
    assert b'fault="usage_twice",model="there"' in metrics.content


@pytest.mark.parametrize("pieces", [(*HELLO[:2], HELLO[4]), (told(COUNTS), HELLO[4])])
async def test_an_end_without_any_finish_is_no_answer(
    tmp_path: Path, pieces: tuple[bytes, ...]
) -> None:
    async with (
        scripted("there", chat_completions=lambda _: stream(*pieces)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("there"))
    assert (reply.status, reply.error["code"]) == (502, "runtime_malformed")


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_model_has_its_name_here_although_nobody_renamed_it(
    tmp_path: Path, streamed: bool
) -> None:
    async with (
        scripted("there", chat_completions=lambda _: stream(*HELLO)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        reply = await ask(pool, "POST", CHAT, {**chat("there"), "stream": streamed})
    answers = [one for one in reply.events if one != "[DONE]"] if streamed else [reply.json]
    assert {one["model"] for one in answers if "model" in one} == {"there"}


async def test_a_server_that_counts_nothing_is_told_of_in_the_metrics(tmp_path: Path) -> None:
    uncounted = [*HELLO[:3], HELLO[4]]
    async with (
        scripted("there", chat_completions=lambda _: stream(*uncounted)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("there"))
        metrics = await ask(pool, "GET", "/metrics")
    assert reply.status == 200
    assert "usage" not in reply.json
    assert b'fault="usage_missing",model="there"' in metrics.content


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        (stream(*HELLO[:2]), "runtime_exited"),
        (stream(*HELLO[:2], ends=False), "runtime_exited"),
        (stream(HELLO[0], b"<html>oops</html>\n\n"), "runtime_malformed"),
        (stream(HELLO[0], data({"error": {"message": "boom"}}) + b"\n\n"), "runtime_refused"),
        ([whole(b"<html>", kind="text/html")], "runtime_malformed"),
        ([whole(b'{"choices":')], "runtime_malformed"),
        ([whole({"error": {"message": "boom"}})], "runtime_refused"),
        ([whole({"error": {"message": "sk-1"}}, status=401)], "runtime_refused"),
        ([whole({"error": {"message": "no model x found"}}, status=404)], None),
    ],
)
async def test_what_is_no_answer_is_a_typed_refusal(
    tmp_path: Path, pieces: list[bytes], code: str | None
) -> None:
    async with (
        scripted("there", chat_completions=lambda _: pieces) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        other.aborts = True
        reply = await ask(pool, "POST", CHAT, chat("there"))
    assert reply.status >= 400
    assert "sk-1" not in reply.error["message"]
    if code is not None:
        assert reply.error["code"] == code


async def test_a_server_that_is_too_busy_says_for_how_long(tmp_path: Path) -> None:
    def busy(_: Asked) -> list[bytes]:
        return [whole({"error": {"message": "slow"}}, status=429, headers=["retry-after: 17"])]

    async with (
        scripted("there", chat_completions=busy) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("there"))
    assert (reply.status, reply.error["code"]) == (503, "overloaded")
    assert reply.headers[b"retry-after"] == b"17"


async def test_a_key_that_is_not_taken_is_told_at_once_and_not_as_the_client_s(
    tmp_path: Path,
) -> None:
    refused = False

    def models(_: Asked) -> list[bytes]:
        if refused:
            return [whole({"error": {"message": "expired"}}, status=401)]
        return [whole({"data": [{"id": "there"}]})]

    async with (
        scripted(models=models) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        refused = True
        reply = await ask(pool, "POST", CHAT, chat("there"))
    assert reply.status == 502
    assert "does not take its key (401)" in reply.error["message"]


async def test_a_client_that_leaves_is_left_by_the_server_too(tmp_path: Path) -> None:
    async with (
        scripted("there", chat_completions=lambda _: stream(HELLO[0], b"")) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        body = json.dumps(chat("there", stream=True)).encode()
        with await pool.request("POST", CHAT, (), body) as response:
            assert b"hel" in await response.chunk()
        with anyio.fail_after(PATIENCE_S):
            await other.gone.wait()


async def test_slots_hold_for_a_server_too(tmp_path: Path) -> None:
    async with scripted("there", chat_completions=lambda _: stream(HELLO[0], b"")) as other:
        wanted = {"there": ModelSettings(slots=1, context_tokens=500)}
        async with neuron(tmp_path, servers=server(other), models=wanted) as (live, pool):
            found = await state(live, "there", "unloaded")
            body = json.dumps(chat("there", stream=True)).encode()
            with await pool.request("POST", CHAT, (), body) as response:
                await response.chunk()
                with anyio.move_on_after(0.2) as waited:
                    await ask(pool, "POST", CHAT, chat("there"))
            assert waited.cancelled_caught
    assert (found.slots, found.context_tokens) == (1, 500)
    assert len(other.of(CHAT)) == 1


async def test_embeddings_of_a_server(tmp_path: Path) -> None:
    def embed(asked: Asked) -> list[bytes]:
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        return [whole({"object": "list", "model": asked.json["model"], "data": vectors,
                       "usage": usage})]  # fmt: skip

    async with scripted("there", embeddings=embed) as other:
        wanted = server(other, models={"here": "there"}, offers=("embedding",))
        async with neuron(tmp_path, servers=wanted) as (live, pool):
            await state(live, "here", "unloaded")
            reply = await ask(pool, "POST", "/v1/embeddings", {"model": "here", "input": "x"})
            refused = await ask(pool, "POST", CHAT, chat("here"))
    assert reply.json["data"][0]["embedding"] == [0.5, 1.0]
    assert reply.json["model"] == "here"
    assert (refused.status, refused.error["code"]) == (400, "unsupported_capability")


async def test_reranking_by_a_server(tmp_path: Path) -> None:
    def rank(asked: Asked) -> list[bytes]:
        found = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
        answer = {"model": asked.json["model"], "results": found, "usage": {"total_tokens": 6}}
        return [whole(answer)]

    async with scripted("there", rerank=rank) as other:
        wanted = server(other, models={"here": "there"}, offers=("rerank",))
        async with neuron(tmp_path, servers=wanted) as (live, pool):
            await state(live, "here", "unloaded")
            body = {"model": "here", "query": "q", "documents": ["a", "b"]}
            reply = await ask(pool, "POST", "/v1/rerank", body)
            metrics = await ask(pool, "GET", "/metrics")
    assert [one["index"] for one in reply.json["results"]] == [1, 0]
    assert reply.json["model"] == "here"
    assert b'helexa_neuron_tokens_total{class="prompt_uncached",model="here"} 6.0' in (
        metrics.content
    )


async def test_a_key_that_others_can_read_is_used_and_complained_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    async with (
        scripted("there") as other,
        neuron(tmp_path, servers=server(other, key_file=key)) as (live, _),
    ):
        await state(live, "there", "unloaded")
    assert "readable by others" in caplog.text
    assert stat.S_IMODE(key.stat().st_mode) == 0o644
    assert other.asked[0].headers["authorization"] == "Bearer k"


async def test_servers_that_cannot_be_used_are_told_although_no_model_of_theirs_is_known(
    tmp_path: Path,
) -> None:
    async with scripted("there") as other:
        other.on["/v1/models"] = lambda _: [whole({"error": "no"}, status=401)]
        servers = {**server(other), "gone": ServerSettings(url="http://127.0.0.1:9/v1")}
        async with neuron(tmp_path, servers=servers) as (live, pool):
            token = {"authorization": f"Bearer {live.admin_token_path.read_text().strip()}"}
            with anyio.fail_after(PATIENCE_S):
                told_of: dict[str, str] = {}
                while len(told_of) < 2:
                    status = await ask(pool, "GET", "/api/v1/status", headers=token)
                    told_of = {one["server"]: one["reason"] for one in status.json["servers"]}
    assert told_of == {
        "other": "it does not take this neuron's key (401)",
        "gone": "it cannot be reached",
    }


async def test_a_trace_reaches_the_server_and_a_malformed_one_does_not(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        scripted("there", chat_completions=lambda _: stream(*HELLO)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        for sent, heard in ((parent, parent), ("00-broken", None)):
            traced = {"traceparent": sent, "tracestate": "a=1"}
            assert (await ask(pool, "POST", CHAT, chat("there"), traced)).status == 200
            asked = [one for one in other.asked if one.path == CHAT][-1]
            assert asked.headers.get("traceparent") == heard
            assert asked.headers.get("tracestate") == ("a=1" if heard else None)


@pytest.mark.parametrize(
    ("name", "said"),
    [("models", ["a"]), ("provider", {"only": ["b"]}), ("helexa", {"federation": False})],
)
async def test_where_a_request_may_go_is_nothing_for_a_neuron_that_is_asked_itself(
    tmp_path: Path, name: str, said: Any
) -> None:
    async with (
        scripted("there", chat_completions=lambda _: stream(*HELLO)) as other,
        neuron(tmp_path, servers=server(other)) as (live, pool),
    ):
        await state(live, "there", "unloaded")
        refused = await ask(pool, "POST", CHAT, chat("there", **{name: said}))
        assert (refused.status, refused.json["error"]["param"]) == (400, name)
        assert (await ask(pool, "POST", CHAT, chat("there", **{name: None}))).status == 200
