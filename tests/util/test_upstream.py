"""The client pool against a far side that does what far sides do."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from tests.util.http_parts import ANSWER, Caller, FarSide, Script, answers, far_side

from helexa.util.upstream import (
    Pool,
    PoolFull,
    Streams,
    Tcp,
    Unix,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimedOut,
    UpstreamUnreachable,
)

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def pool_to(script: Script, **options: object) -> AsyncIterator[tuple[Pool, FarSide]]:
    async with (
        far_side(script) as side,
        Pool(Tcp("127.0.0.1", side.port), **options).running() as pool,  # type: ignore[arg-type]
    ):
        yield pool, side


async def get(pool: Pool) -> bytes:
    with await pool.request("GET", "/") as response:
        return await response.read(1000)


async def test_a_request_arrives_as_it_was_given_and_the_answer_comes_back_whole() -> None:
    async with pool_to(answers) as (pool, side):
        with await pool.request("POST", "/v1/x?y=1", [(b"a", b"b")], b"body") as response:
            assert response.status == 200
            assert response.header(b"content-length") == b"5"
            assert await response.read(100) == b"hello"
    assert side.requests == [
        b"POST /v1/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\na: b\r\ncontent-length: 4\r\n\r\nbody"
        % side.port
    ]


async def test_a_finished_connection_carries_the_next_request() -> None:
    async with pool_to(answers) as (pool, side):
        for _ in range(5):
            assert await get(pool) == b"hello"
        assert pool.in_use == 0
    assert len(side.callers) == 1


async def test_chunks_come_as_they_arrive_and_end_with_nothing() -> None:
    heard = asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(CHUNKED)
        await caller.say_chunk(b"one")
        await heard.wait()
        await caller.say_chunk(b"two")
        await caller.say(b"0\r\n\r\n")
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            assert await response.chunk() == b"one"
            assert not response.is_complete
            heard.set()
            rest = b""
            while part := await response.chunk():
                rest += part
            assert rest == b"two"
            assert response.is_complete
            assert await response.chunk() == b""


async def test_a_sink_takes_what_arrives_and_the_rest_is_left_in_its_order() -> None:
    numbers = [b"%d;" % number for number in range(40)]
    told: list[bytes] = []
    heard = asyncio.Event()
    taken = 0

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(CHUNKED)
        for at, number in enumerate(numbers):
            await caller.say_chunk(number)
            # Of each five two come together.
            if at % 5:
                await heard.wait()
                heard.clear()
        await caller.say(b"0\r\n\r\n")
        await caller.gone()

    def sink(data: bytes) -> bool:
        nonlocal taken
        if b"3" in data:
            return False
        told.append(data)
        taken += 1
        heard.set()
        return True

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            response.pass_to(sink)
            while part := await response.chunk():
                if b"3" in part:
                    # More comes at once: who is busy with what came before is not overtaken.
                    heard.set()
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                told.append(part)
                heard.set()
    assert b"".join(told) == b"".join(numbers)
    assert 5 < taken < len(told)


async def test_leaving_early_hangs_up_at_once() -> None:
    hung_up = asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(CHUNKED)
        await caller.say_chunk(b"first")
        await caller.gone()
        hung_up.set()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            assert await response.chunk() == b"first"
        await hung_up.wait()
        assert pool.in_use == 0


async def test_cancelling_the_wait_for_an_answer_hangs_up() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await caller.gone()
        hung_up.set()

    async with pool_to(script) as (pool, _):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(get, pool)
            await asked.wait()
            tasks.cancel_scope.cancel()
        await hung_up.wait()


async def test_a_truncated_body_is_delivered_and_then_reported() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            assert await response.chunk() == b"half"
            with pytest.raises(UpstreamBroken):
                await response.chunk()


async def test_without_a_length_the_end_of_the_connection_is_the_end_of_the_body() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with pool_to(script) as (pool, side):
        assert await get(pool) == b"all of it"
        assert await get(pool) == b"all of it"
    assert len(side.callers) == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x01\x02\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        CHUNKED[:-2] + b"content-length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + CHUNKED[17:] + b"0\r\n\r\n",
        CHUNKED[:-2] + CHUNKED[17:] + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello",
        b"HTTP/1.1 999 Odd\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + ANSWER,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"content-length: 5\r\n\r\nhello",
    ],
)
async def test_what_is_not_an_answer_is_broken_and_its_connection_is_not_kept(
    nonsense: bytes,
) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(nonsense)
        await caller.gone()

    async with pool_to(script) as (pool, side):
        for _ in range(2):
            with pytest.raises(UpstreamBroken):
                await get(pool)
    assert len(side.callers) == 2


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n", CHUNKED + b"0\r\n"])
async def test_endless_headers_and_trailers_are_cut_off(start: bytes) -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(start + b"x: ")
        while True:
            await caller.say(b"y" * 65536)

    async with pool_to(script) as (pool, _):
        with pytest.raises(UpstreamBroken, match="headers"):
            await get(pool)


async def test_a_head_that_only_drips_is_not_there_in_time() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        while True:
            await caller.say(b"HTTP/1.1 102 Processing\r\n" if not drips else b"x: y\r\n")
            drips.append(1)
            await asyncio.sleep(0.01)

    drips: list[int] = []
    async with pool_to(script) as (pool, _):
        with pytest.raises(UpstreamTimedOut):
            await pool.request("GET", "/", first_byte_timeout_s=0.1)
    assert len(drips) > 1


async def test_an_interim_answer_is_passed_over() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await caller.say(ANSWER)
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            assert response.status == 200
            assert response.header(b"link") is None
            assert await response.read(100) == b"hello"


async def test_a_stale_connection_is_replaced_once_when_a_second_execution_does_no_harm() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(ANSWER)
        if caller.number == 0:
            # Takes the next request and closes without a word, as a server does at its idle limit.
            await caller.request()
        else:
            await answers(caller)

    async with pool_to(script) as (pool, side):
        assert await get(pool) == b"hello"
        with await pool.request("POST", "/", (), b"x", resend_safe=True) as response:
            assert await response.read(10) == b"hello"
    assert len(side.callers) == 2


async def test_a_stale_connection_is_reported_when_the_request_must_not_run_twice() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(ANSWER)
        await caller.request()

    async with pool_to(script) as (pool, side):
        assert await get(pool) == b"hello"
        with pytest.raises(UpstreamBroken):
            await pool.request("POST", "/", (), b"x")
    assert len(side.callers) == 1


async def test_a_request_is_resent_at_most_once() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        if caller.number == 0:
            await caller.say(ANSWER)
            await caller.request()

    async with pool_to(script) as (pool, side):
        assert await get(pool) == b"hello"
        with pytest.raises(UpstreamBroken):
            await get(pool)
    assert len(side.callers) == 2


async def test_an_answer_that_began_is_never_asked_for_again() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(ANSWER)
        await caller.request()
        await caller.say(b"HTTP/1.1 2")

    async with pool_to(script) as (pool, side):
        assert await get(pool) == b"hello"
        with pytest.raises(UpstreamBroken):
            await get(pool)
    assert len(side.callers) == 1


async def test_bytes_on_an_idle_connection_do_not_become_the_next_answer() -> None:
    spoken, closed = asyncio.Event(), asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(ANSWER)
        if caller.number == 0:
            await spoken.wait()
            await caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
            await caller.gone()
            closed.set()
        else:
            await answers(caller)

    async with pool_to(script) as (pool, _):
        assert await get(pool) == b"hello"
        spoken.set()
        await closed.wait()
        assert await get(pool) == b"hello"


async def test_silence_before_the_first_byte_times_out() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with pytest.raises(UpstreamTimedOut):
            await pool.request("GET", "/", first_byte_timeout_s=0.05)
        assert pool.in_use == 0


async def test_silence_inside_the_body_times_out_after_what_came_was_delivered() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(CHUNKED)
        await caller.say_chunk(b"some")
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/", silence_timeout_s=0.05) as response:
            assert await response.chunk() == b"some"
            with pytest.raises(UpstreamTimedOut):
                await response.chunk()


async def test_a_slow_reader_here_is_not_the_far_sides_silence() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(CHUNKED)
        await caller.say_chunk(b"some")
        await caller.say(b"0\r\n\r\n")
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/", silence_timeout_s=0.02) as response:
            await response.ready(5)
            await anyio.sleep(0.1)
            assert await response.read(100) == b"some"


async def test_head_says_when_the_answer_is_not_there_yet_and_waiting_goes_on() -> None:
    answer = asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await answer.wait()
        await caller.say(ANSWER)
        await caller.gone()

    async with pool_to(script) as (pool, _):
        with await pool.send("GET", "/") as response:
            assert not await response.head(0.01)
            assert not await response.head(0.01)
            answer.set()
            assert await response.head()
            assert await response.ready(5)
            assert await response.read(10) == b"hello"


async def test_what_is_not_read_here_is_not_taken_from_the_far_side() -> None:
    stuck = asyncio.Event()
    total = 64 * 1024 * 1024

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        sent = 0
        while sent < total:
            caller.writer.write(b"z" * 65536)
            sent += 65536
            try:
                async with asyncio.timeout(0.2):
                    await caller.writer.drain()
            except TimeoutError:
                stuck.set()
                await caller.writer.drain()

    async with pool_to(script) as (pool, _):
        with await pool.request("GET", "/") as response:
            await stuck.wait()
            first = len(await response.chunk())
            assert first < 2 * 1024 * 1024
            rest = 0
            while part := await response.chunk():
                rest += len(part)
            assert first + rest == total


async def test_an_answer_longer_than_wanted_is_refused() -> None:
    async with pool_to(answers) as (pool, _):
        response = await pool.request("GET", "/")
        with response, pytest.raises(UpstreamBroken, match="more than 4"):
            await response.read(4)


async def test_nobody_listening_is_unreachable() -> None:
    async with far_side(answers) as side:
        port = side.port
    async with Pool(Tcp("127.0.0.1", port)).running() as pool:
        with pytest.raises(UpstreamUnreachable):
            await get(pool)


async def test_a_connect_that_takes_too_long_is_unreachable() -> None:
    # A full accept queue drops further connects without a word.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with Pool(Tcp("127.0.0.1", port), connect_timeout_s=0.1).running() as pool:
                with pytest.raises(UpstreamUnreachable, match=r"within 0\.1 s"):
                    await get(pool)
        finally:
            for filler in fillers:
                filler.close()


async def test_requests_beyond_the_connections_wait_their_turn() -> None:
    async with (
        pool_to(answers, connections_max=2) as (pool, side),
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(get, pool)
    assert len(side.callers) == 2
    assert len(side.requests) == 20


async def test_too_many_waiting_requests_are_refused() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await go.wait()
        await caller.say(ANSWER)
        await answers(caller)

    async with (
        pool_to(script, connections_max=1, waiting_max=1) as (pool, _),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(get, pool)
        await asked.wait()
        tasks.start_soon(get, pool)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(PoolFull):
            await get(pool)
        go.set()


async def test_a_cancelled_waiter_gives_its_turn_to_the_next() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await go.wait()
        await caller.say(ANSWER)
        await answers(caller)

    async with (
        pool_to(script, connections_max=1) as (pool, _),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(get, pool)
        await asked.wait()
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(get, pool)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(get, pool)
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        go.set()


async def test_a_failed_dial_lets_the_next_waiter_try() -> None:
    async with far_side(answers) as side:
        port = side.port
    async with Pool(Tcp("127.0.0.1", port), connections_max=1).running() as pool:
        outcomes: list[type[UpstreamError]] = []

        async def attempt() -> None:
            try:
                await get(pool)
            except UpstreamError as error:
                outcomes.append(type(error))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(attempt)
        assert outcomes == [UpstreamUnreachable] * 3
        assert pool.in_use == 0


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    closed = asyncio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(ANSWER)
        await caller.gone()
        closed.set()

    async with pool_to(script, idle_s=0.05) as (pool, _):
        await get(pool)
        await closed.wait()


async def test_the_end_of_the_pool_ends_every_connection_and_every_wait() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()
    failed: list[BaseException] = []

    async def script(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await caller.gone()
        hung_up.set()

    async def attempt(pool: Pool) -> None:
        try:
            await get(pool)
        except UpstreamError as error:
            failed.append(error)

    async with far_side(script) as side, anyio.create_task_group() as tasks:
        async with Pool(Tcp("127.0.0.1", side.port), connections_max=1).running() as pool:
            tasks.start_soon(attempt, pool)
            await asked.wait()
            tasks.start_soon(attempt, pool)
            await anyio.wait_all_tasks_blocked()
        await hung_up.wait()
        with pytest.raises(UpstreamUnreachable):
            await get(pool)
    assert len(failed) == 2


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", [(b"a", b"b\r\nx-evil: 1")]),
        ("/", [(b"a: b\r\nx-evil", b"1")]),
        ("/a b", []),
        ("/ HTTP/1.1\r\nx-evil: 1\r\n\r\n", []),
    ],
)
async def test_nothing_can_be_smuggled_into_a_request(
    path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    async with pool_to(answers) as (pool, side):
        with pytest.raises(ValueError, match="line break"):
            await pool.request("GET", path, headers)
    assert side.requests == []


async def test_a_large_body_arrives_whole() -> None:
    body = os.urandom(3 * 1024 * 1024)
    async with pool_to(answers) as (pool, side):
        with await pool.request("POST", "/", (), body) as response:
            assert await response.read(10) == b"hello"
    assert side.requests[0].endswith(body)


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Caller(reader, writer, 0).request()
        writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_unix_server(attend, path)
    async with Pool(Unix(path)).running() as pool:
        assert await get(pool) == b"hello"
    server.close()
    async with Pool(Unix(path + "-none")).running() as pool:
        with pytest.raises(UpstreamUnreachable):
            await get(pool)


class Pipe:
    """A byte stream in memory, with the manners of a mesh stream."""

    def __init__(self) -> None:
        self.to_peer: asyncio.Queue[bytes] = asyncio.Queue()
        self.from_peer: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.aborted = asyncio.Event()

    async def read(self) -> bytes:
        item = await self.from_peer.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def write(self, data: bytes) -> None:
        await self.to_peer.put(data)

    async def finish(self) -> None:
        await self.to_peer.put(b"")

    def abort(self) -> None:
        self.aborted.set()


async def test_any_byte_stream_carries_one_request_and_is_finished_after_it() -> None:
    pipes: list[Pipe] = []

    async def open_stream() -> Pipe:
        pipe = Pipe()
        pipes.append(pipe)
        pipe.from_peer.put_nowait(ANSWER)
        return pipe

    async with Pool(Streams(open_stream)).running() as pool:
        assert await get(pool) == b"hello"
        assert await get(pool) == b"hello"
        for pipe in pipes:
            assert (await pipe.to_peer.get()).startswith(b"GET / HTTP/1.1\r\n")
            assert await pipe.to_peer.get() == b""
    assert len(pipes) == 2


async def test_leaving_early_aborts_the_stream() -> None:
    pipe = Pipe()

    async def open_stream() -> Pipe:
        return pipe

    async with Pool(Streams(open_stream)).running() as pool:
        pipe.from_peer.put_nowait(CHUNKED + b"1\r\na\r\n")
        with await pool.request("GET", "/") as response:
            assert await response.chunk() == b"a"
        await pipe.aborted.wait()


async def test_a_stream_that_fails_is_a_broken_answer() -> None:
    pipe = Pipe()

    async def open_stream() -> Pipe:
        return pipe

    async with Pool(Streams(open_stream)).running() as pool:
        pipe.from_peer.put_nowait(RuntimeError("reset by the far side"))
        with pytest.raises(UpstreamBroken, match="reset by the far side"):
            await get(pool)


async def test_a_stream_that_cannot_be_opened_is_unreachable() -> None:
    async def open_stream() -> Pipe:
        raise RuntimeError("link closed")

    async with Pool(Streams(open_stream)).running() as pool:
        with pytest.raises(UpstreamUnreachable, match="link closed"):
            await get(pool)
