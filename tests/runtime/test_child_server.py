"""The server that our own children share, as a process, against an engine that follows a script."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.neuron.bench import PATIENCE_S, Journal, Reply

from helexa.runtime import children
from helexa.util.upstream import Pool, Unix, UpstreamError

pytestmark = pytest.mark.anyio

PROGRAM = Path(children.__file__).parent / "__main__.py"
ENGINE = Path(__file__).parent / "scripted_engine.py"
KINDS = ("chat", "completions", "embeddings", "rerank")
CHAT = "/v1/chat/completions"


def started(wanted: dict[str, Any]) -> subprocess.Popen[str]:
    # Without any installed package, as in an environment that has the engine and not helexa.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PROGRAM), str(ENGINE), json.dumps(wanted)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Live:
    def __init__(self, process: subprocess.Popen[str], path: Path, journal: Journal) -> None:
        self.process = process
        self.path = path
        self.journal = journal
        self.pool: Pool

    async def get(self, path: str) -> Reply:
        return await self._ask("GET", path, b"")

    async def post(self, path: str, body: Any) -> Reply:
        return await self._ask("POST", path, body if isinstance(body, bytes) else encoded(body))

    async def _ask(self, method: str, path: str, body: bytes) -> Reply:
        with anyio.fail_after(PATIENCE_S):
            head = ((b"content-type", b"application/json"),)
            with await self.pool.request(method, path, head, body) as response:
                kind = dict(response.headers)
                return Reply(response.status, kind, await response.read(1 << 24))

    async def says(self, *steps: Any, **more: Any) -> Reply:
        return await self.post(CHAT, chat(*steps, **more))

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))

    async def raw(self, data: bytes) -> bytes:
        """All that is answered until the connection closes."""
        reader, writer = await self.connected()
        writer.write(data)
        with anyio.fail_after(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[Live]:
    # Unix sockets have short names; pytest's folders have long ones.
    with tempfile.TemporaryDirectory(prefix="hx-") as name:
        path, journal = Path(name) / "child.sock", Journal(Path(name) / "journal")
        wanted = {"model": "m", "socket": str(path), "slots": 2, "kinds": KINDS}
        process = started({**wanted, "journal": str(journal.path), **more})
        live = Live(process, path, journal)
        try:
            async with Pool(Unix(str(path)), connections_max=512).running() as live.pool:
                await ready(live)
                yield live
        finally:
            process.kill()
            process.communicate()
            journal.close()


async def ready(live: Live) -> None:
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                if (await live.get("/health")).status == 200:
                    return
            except UpstreamError:
                assert live.process.poll() is None, live.process.communicate()
                await anyio.sleep(0.01)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def chat(*steps: Any, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": json.dumps(steps)}]
    return {"model": "m", "messages": said, **more}


def request(body: Any, path: str = CHAT) -> bytes:
    data = encoded(body)
    return b"POST %s HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(data), data)


def content(reply: Reply) -> str:
    return "".join(each["choices"][0]["delta"].get("content", "") for each in chunks(reply))


def chunks(reply: Reply) -> list[Any]:
    return [each for each in payloads(reply) if each.get("choices")]


def payloads(reply: Reply) -> list[Any]:
    return [each for each in reply.events if each != "[DONE]"]


STREAM = {"stream": True, "stream_options": {"include_usage": True}}


async def test_it_runs_where_helexa_is_not_installed() -> None:
    async with serving() as live:
        assert (await live.journal.heard("loading"))["helexa"] is False
        assert (await live.get("/v1/models")).json["data"][0]["id"] == "m"


async def test_a_whole_answer_and_a_stream_say_the_same() -> None:
    steps = [{"text": "Hel"}, {"text": ""}, {"text": "exa"}, {"finish": "length"}]
    async with serving() as live:
        whole = await live.says(*steps)
        streamed = await live.says(*steps, **STREAM)
        quiet = await live.says(*steps, stream=True)
        text = await live.post("/v1/completions", {"prompt": json.dumps(steps)})
        events = await live.post("/v1/completions", {"prompt": json.dumps(steps), **STREAM})
    answer = whole.json
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Helexa"}
    assert answer["choices"][0]["finish_reason"] == "length"
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert answer["usage"] == usage
    assert streamed.headers[b"content-type"] == b"text/event-stream"
    assert content(streamed) == "Helexa"
    assert chunks(streamed)[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [each["choices"][0]["finish_reason"] for each in chunks(streamed)] == [
        None,
        None,
        "length",
    ]
    assert (payloads(streamed)[-1]["choices"], payloads(streamed)[-1]["usage"]) == ([], usage)
    assert streamed.content.endswith(b"data: [DONE]\n\n")
    assert not any("usage" in each for each in payloads(quiet))
    assert text.json["object"] == "text_completion"
    assert text.json["choices"][0]["text"] == "Helexa"
    assert "".join(each["choices"][0]["text"] for each in chunks(events)) == "Helexa"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"frobnicate": 1}, "frobnicate"),
        ({"seed": 3}, "seed"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 1e-320}, "temperature"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repeat_penalty": 1e-300}, "repeat_penalty"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages"),
        ({"messages": None}, "messages"),
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
    ],
)
async def test_what_is_not_known_or_cannot_be_honoured_is_refused_by_its_name(
    more: Any, param: str
) -> None:
    async with serving() as live:
        reply = await live.says({"text": "x"}, **more)
        after = await live.says({"text": "x", "finish": "stop"})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert reply.error["type"] == "invalid_request_error"
    assert param in reply.error["message"]
    assert after.status == 200


async def test_what_asks_for_nothing_is_not_refused() -> None:
    nothing = {
        "n": 1,
        "seed": None,
        "logit_bias": {},
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "top_p": 1,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "store": False,
        "user": "somebody",
        "metadata": {"a": "b"},
    }
    async with serving() as live:
        reply = await live.says({"text": "x", "finish": "stop"}, temperature=0.5, **nothing)
        heard = await live.journal.heard("generate")
    assert reply.status == 200
    # And the engine sees what it honours alone.
    assert heard["fields"] == {
        "temperature": 0.5,
        "tools": [],
        "response_format": {"type": "text"},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"messages": NaN}',
        b"\xff\xfe",
        b'{"a":' * 50_000,
        b'{"user": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
async def test_a_body_that_makes_no_sense_is_a_400(body: bytes) -> None:
    async with serving() as live:
        reply = await live.post(CHAT, body)
        assert (await live.get("/health")).status == 200
    assert (reply.status, reply.error["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_refuses_before_the_first_piece_with_a_status(stream: bool) -> None:
    async with serving() as live:
        refused = await live.says({"do": "refuse"}, stream=stream)
        long = await live.says({"do": "too_long"}, stream=stream)
        failed = await live.says({"do": "fail"}, stream=stream)
    assert (refused.status, refused.error["param"]) == (400, "temperature")
    assert (long.status, long.error["code"]) == (400, "context_length_exceeded")
    assert (long.error["n_prompt_tokens"], long.error["n_ctx"]) == (100, 64)
    assert (failed.status, failed.error["type"]) == (500, "server_error")
    # What went wrong inside is the operator's to read, not the client's.
    assert "device" not in failed.content.decode()


async def test_a_failure_in_the_middle_is_an_error_event_without_an_end() -> None:
    async with serving() as live:
        reply = await live.says({"text": "a"}, {"do": "fail"}, stream=True)
        live.process.terminate()
        said = live.process.communicate(timeout=PATIENCE_S)[0]
    assert reply.status == 200
    assert payloads(reply)[-1]["error"]["code"] == "internal_error"
    assert b"[DONE]" not in reply.content
    assert "the device was lost" in said


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_is_never_seen_however_it_is_cut(stream: bool) -> None:
    steps = [{"text": text} for text in ("one E", "N", "x EN", "D", " two")]
    async with serving() as live:
        reply = await live.says(*steps, {"do": "spin"}, stop=["END", "END OF"], stream=stream)
        closed = await live.journal.heard("closed")
    if stream:
        text, finish = content(reply), chunks(reply)[-1]["choices"][0]["finish_reason"]
        # What was held back in vain came with what showed it.
        assert [each["choices"][0]["delta"].get("content") for each in chunks(reply)][1] == "ENx "
    else:
        choice = reply.json["choices"][0]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        assert reply.json["usage"]["completion_tokens"] == 4
    assert (text, finish) == ("one ENx ", "stop")
    assert closed["steps"] == 4


async def test_what_only_looked_like_a_stop_string_is_told_at_the_end() -> None:
    async with serving() as live:
        reply = await live.says({"text": "the EN"}, {"finish": "stop"}, stop="END", stream=True)
    assert content(reply) == "the EN"


async def test_characters_cut_by_tokens_are_put_together() -> None:
    snow = list("☃é".encode())
    steps = [{"bytes": [each]} for each in snow]
    async with serving() as live:
        reply = await live.says(*steps, {"bytes": [0xE2, 0x98], "finish": "length"}, stream=True)
    # Half a character at the very end is all that is replaced.
    assert content(reply) == "☃é�"


async def test_several_choices_thoughts_calls_and_logprobs_are_put_in_their_places() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ":1}"}}
    entry = {"token": "b", "logprob": -0.5, "bytes": [98], "top_logprobs": []}
    steps = [
        {"text": "a", "choice": 0, "thought": "hm"},
        {"text": "b", "choice": 1, "logprobs": [entry]},
        {"calls": [call], "choice": 0},
        {"calls": [rest], "choice": 0, "finish": "tool_calls"},
        {"choice": 1, "finish": "stop"},
    ]
    async with serving() as live:
        reply = await live.says(*steps, n=2, logprobs=True)
        streamed = await live.says(*steps, n=2, logprobs=True, stream=True)
    first, second = reply.json["choices"]
    assert first["message"]["reasoning_content"] == "hm"
    assert first["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert second["logprobs"]["content"] == [entry]
    deltas = [each["choices"][0]["delta"] for each in chunks(streamed)]
    assert [delta["tool_calls"] for delta in deltas if "tool_calls" in delta] == [[call], [rest]]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_generation_within_a_token(stream: bool) -> None:
    async with serving() as live:
        _, writer = await live.connected()
        writer.write(request(chat({"text": "a"}, {"do": "spin"}, stream=stream)))
        await live.journal.heard("spinning")
        writer.close()
        await live.journal.heard("closed")
        await load(live, running=0, waiting=0)


async def test_an_engine_that_waits_hears_that_the_client_left() -> None:
    async with serving() as live:
        _, writer = await live.connected()
        writer.write(request(chat({"do": "hold"}, stream=True)))
        await live.journal.heard("holding")
        writer.close()
        await live.journal.heard("closed")


async def load(live: Live, **awaited: int) -> Any:
    """What it says of itself, once it says that."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            said = (await live.get("/load")).json
            if awaited.items() <= said.items():
                return said
            await anyio.sleep(0.005)


async def test_the_load_is_told_while_all_slots_work_and_the_line_is_bounded() -> None:
    async with serving(slots=1) as live:
        writers = []
        for _ in range(3):
            _, writer = await live.connected()
            writers.append(writer)
            writer.write(request(chat({"do": "hold"})))
        await live.journal.heard("holding")
        said = await load(live, waiting=2)
        assert said == {"running": 1, "waiting": 2, "kv_share": 0.25, "cached_tokens": None}
        # One that leaves the line is never begun.
        writers.pop().close()
        await load(live, waiting=1)
        for writer in writers:
            writer.close()
        await load(live, running=0, waiting=0)
        await live.says({"text": "x", "finish": "stop"})
        await load(live, cached_tokens=2)


async def test_a_full_line_is_a_503() -> None:
    async with serving(slots=1) as live:
        writers = []
        for _ in range(257):
            _, writer = await live.connected()
            writers.append(writer)
            writer.write(request(chat({"do": "hold"})))
        await load(live, waiting=256)
        reply = await live.says({"text": "x"})
        for writer in writers:
            writer.close()
    assert (reply.status, reply.error["code"]) == (503, "overloaded")


async def test_health_is_answered_while_the_engine_computes(tmp_path: Path) -> None:
    async with serving(slots=1) as live:
        _, writer = await live.connected()
        # Python code that never lets go by itself, which is worse than any engine.
        writer.write(request(chat({"do": "busy", "s": 0.5}, {"finish": "stop"})))
        await live.journal.heard("busy")
        assert (await live.get("/health")).status == 200
        assert (await live.get("/load")).json["running"] == 1
        writer.close()


async def test_embeddings_are_floats_or_base64_and_dimensions_reach_the_engine() -> None:
    async with serving() as live:
        two = await live.post("/v1/embeddings", {"input": ["ab", "c"]})
        coded = await live.post(
            "/v1/embeddings", {"input": "abcd", "encoding_format": "base64", "dimensions": 2}
        )
        tokens = await live.post("/v1/embeddings", {"input": [[1, 2]]})
    assert [each["embedding"] for each in two.json["data"]] == [[2.0, 0.5, -1.0], [1.0, 0.5, -1.0]]
    assert [each["index"] for each in two.json["data"]] == [0, 1]
    assert two.json["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert struct.unpack("<2f", base64.b64decode(coded.json["data"][0]["embedding"])) == (4.0, 0.5)
    assert (tokens.status, tokens.error["param"]) == (400, "input")


async def test_documents_come_back_the_best_first_with_where_they_were() -> None:
    body = {"query": "q", "documents": ["a", "ccc", {"text": "bb"}], "top_n": 2}
    async with serving() as live:
        reply = await live.post("/v1/rerank", {**body, "return_documents": True})
    assert reply.json["results"] == [
        {"index": 1, "relevance_score": 3.0, "document": {"text": "ccc"}},
        {"index": 2, "relevance_score": 2.0, "document": {"text": "bb"}},
    ]
    assert reply.json["usage"]["prompt_tokens"] == 9


async def test_tokens_are_told_beside_what_is_computed_and_as_far_as_they_are_known() -> None:
    async with serving(slots=1) as live, anyio.create_task_group() as tasks:
        tasks.start_soon(live.says, {"do": "hold"})
        await live.journal.heard("holding")
        one = await live.post("/tokenize", {"content": "abc", "special": False})
        several = await live.post("/tokenize", {"content": ["ab", "é"], "special": False})
        special = await live.post("/tokenize", {"content": "abc"})
        said = [{"role": "user", "content": "abcd"}]
        of_chat = await live.post("/tokenize/chat", {"model": "m", "messages": said})
        text = await live.post("/detokenize", {"tokens": [104, 105]})
        refused = [
            await live.post("/detokenize", {"tokens": [99]}),
            await live.post("/detokenize", {"tokens": [-1]}),
            await live.post("/tokenize", {"content": [1]}),
            await live.post("/tokenize/chat", {"model": "m", "messages": said, "zork": 1}),
        ]
        tasks.cancel_scope.cancel()
    assert one.json == {"count": 2, "tokens": [0, 1], "pieces": [[97, 98], [99]]}
    assert several.json["pieces"] == [[97, 98], list("é".encode())]
    assert special.json == {"count": 3, "tokens": [], "pieces": []}
    assert of_chat.json["count"] == 2
    assert text.json == {"content": "hi"}
    params = [(reply.status, reply.error["param"]) for reply in refused]
    assert params == [(400, "tokens"), (400, "tokens"), (400, "content"), (400, "zork")]


async def test_what_is_not_served_is_a_404_and_the_wrong_method_a_405() -> None:
    async with serving(kinds=["embeddings"]) as live:
        chatting = await live.says({"text": "x"})
        nowhere = await live.get("/v2/anything")
        wrong = await live.get(CHAT)
    assert (chatting.status, chatting.error["code"]) == (404, "unsupported_capability")
    assert (nowhere.status, nowhere.error["code"]) == (404, "not_found")
    assert (wrong.status, wrong.error["code"]) == (405, "bad_method")


async def test_tokens_as_a_prompt_reach_an_engine_that_honours_them() -> None:
    async with serving() as live:
        ids = await live.post("/v1/completions", {"prompt": [5, 6, 7]})
        listed = await live.post("/v1/completions", {"prompt": [[5, 6, 7]]})
        several = await live.post("/v1/completions", {"prompt": ["a", "b"]})
    assert ids.json["choices"][0]["text"] == listed.json["choices"][0]["text"] == "ids:5,6,7"
    assert (several.status, several.error["param"]) == (400, "prompt")


async def test_a_connection_is_used_again_and_what_was_sent_ahead_is_answered_in_order() -> None:
    first, second = (
        request(chat({"text": text, "finish": "stop"}, stream=True)) for text in ("one", "two")
    )
    last = b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n"
    async with serving() as live:
        answer = await live.raw(first + second + last)
    assert answer.index(b'"one"') < answer.index(b'"two"') < answer.index(b'{"status":"ok"}')
    assert answer.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 9999999999\r\n\r\n", 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (b"GET /" + b"x" * (1 << 17), 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(
    data: bytes, status: int
) -> None:
    async with serving() as live:
        answer = await live.raw(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


async def test_a_client_that_does_not_read_is_dropped_in_the_end() -> None:
    async with serving() as live:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
            deaf.connect(str(live.path))
            deaf.sendall(request(chat({"do": "spin"}, stream=True)))
            await live.journal.heard("spinning")
            await live.journal.heard("closed")


async def test_it_ends_at_once_and_takes_its_socket_along() -> None:
    async with serving() as live:
        assert stat.S_IMODE(live.path.stat().st_mode) == 0o600
        _, writer = await live.connected()
        writer.write(request(chat({"do": "hold"})))
        await live.journal.heard("holding")
        live.process.terminate()
        assert live.process.wait(PATIENCE_S) == -signal.SIGTERM
        assert not live.path.exists()
        writer.close()


async def test_it_ends_at_once_while_it_loads(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hx-") as name:
        journal = Journal(Path(name) / "journal")
        wanted = {"model": "m", "socket": f"{name}/s", "slots": 1, "kinds": KINDS}
        process = started({**wanted, "journal": str(journal.path), "loads_for_ever": True})
        await journal.heard("loading")
        process.terminate()
        assert process.wait(PATIENCE_S) == -signal.SIGTERM
        process.communicate()
        journal.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"unloadable": "no such\n  file"}, "scripted_engine did not start: no such file"),
        ({"broken": "bad luck"}, "scripted_engine did not start: RuntimeError: bad luck"),
        ({"socket": "/nowhere/at/all"}, "scripted_engine did not start: couldn't bind /nowhere"),
    ],
)
def test_why_it_did_not_start_is_one_line(tmp_path: Path, more: Any, said: str) -> None:
    wanted = {"model": "m", "socket": str(tmp_path / "s"), "slots": 1, "kinds": KINDS, **more}
    process = started(wanted)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert len(out.splitlines()) == 1
    assert out.startswith(said)
