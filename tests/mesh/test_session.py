"""The control protocol over a link, on the real transport and on the one in memory."""

from __future__ import annotations

import anyio
import pytest
from tests.mesh.hosts import HELLO, Recorder, talking

from helexa.mesh.sessions import asks, session
from helexa.mesh.sessions.handshake import CloseCode
from helexa.mesh.sessions.session import AnswerTimeout, PeerRefused, PeerUnsupported, Session
from helexa.mesh.transport import LinkClosed, StreamReset
from helexa.protocol.errors import NoCapacity
from helexa.protocol.ids import ModelId, RequestId
from helexa.protocol.messages import (
    Drain,
    ExecuteRequest,
    Goodbye,
    LoadModel,
    Ok,
    ProvisioningResponse,
    Refused,
    RequestHealth,
    Unsupported,
)
from helexa.protocol.work import ModelState

pytestmark = pytest.mark.anyio
LOAD = LoadModel(command="c1", model=ModelId("m"))
EXECUTE = ExecuteRequest(request=RequestId("req_1"), model=ModelId("m"))


async def test_both_sides_ask_and_are_answered(roads):
    async with talking(roads) as (mine, theirs):
        assert (mine.peer, mine.dialled) == (theirs.link.peer and mine.link.peer, True)
        assert mine.hello == theirs.hello == HELLO
        assert mine.version == theirs.version == 1
        assert await mine.ask(Drain()) == Ok()
        assert await theirs.ask(Drain()) == Ok()


async def test_many_asks_at_once_get_each_its_own_answer(roads):
    async def answer(inbound):
        await anyio.lowlevel.checkpoint()
        return Goodbye(reason=inbound.message.reason)

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):

        async def ask(number):
            assert await mine.ask(Goodbye(reason=f"{number}")) == Goodbye(reason=f"{number}")

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)


async def test_what_is_told_arrives_in_order(roads):
    there = Recorder()
    async with talking(roads, theirs=there) as (mine, _):
        for number in range(500):
            await mine.tell(Goodbye(reason=f"{number}"))
        await there.until(lambda: len(there.messages) == 500)
        assert [message.reason for message in there.messages] == [f"{n}" for n in range(500)]


async def test_what_was_told_last_arrives_although_the_session_ends_at_once(roads):
    there = Recorder()
    async with talking(roads, theirs=there) as (mine, _):
        await mine.tell(Goodbye(reason="restart"))
    assert there.messages == [Goodbye(reason="restart")]


async def test_a_typed_error_of_the_handler_is_a_refusal(roads):
    async def answer(inbound):
        raise NoCapacity("full", 7)

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        with pytest.raises(PeerRefused) as refused:
            await mine.ask(LOAD)
    assert (refused.value.code, refused.value.message) == ("no_capacity", "full")
    assert refused.value.retry_after_s == 7


async def test_an_unexpected_error_of_the_handler_is_logged_and_says_nothing(roads, caplog):
    async def answer(inbound):
        raise KeyError("a secret path")

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        with pytest.raises(PeerRefused) as refused:
            await mine.ask(LOAD)
        assert refused.value.code == "internal_error"
        assert "secret" not in refused.value.message
        assert "a secret path" in caplog.text
        with pytest.raises(PeerRefused):
            await mine.ask(LOAD)


async def test_an_answer_that_fits_no_frame_is_a_refusal(roads, caplog):
    async def answer(inbound):
        return Goodbye(reason="x" * (1 << 21))

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        with pytest.raises(PeerRefused):
            await mine.ask(LOAD)
    assert "frame of" in caplog.text


async def test_a_message_that_fits_no_frame_is_the_senders_error(roads):
    async with talking(roads) as (mine, _):
        with pytest.raises(ValueError, match="frame of"):
            await mine.tell(Goodbye(reason="x" * (1 << 21)))
        assert await mine.ask(Drain()) == Ok()


async def test_progress_comes_before_the_answer(roads):
    def response(done, *, final):
        return ProvisioningResponse(
            command="c1", model=ModelId("m"), state=ModelState.LOADING, final=final, bytes_done=done
        )

    async def answer(inbound):
        for done in range(3):
            await inbound.progress(response(done, final=False))
        return response(3, final=True)

    seen = []
    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        final = await mine.ask(LOAD, on_progress=seen.append)
        assert await mine.ask(LOAD) == final
    assert [each.bytes_done for each in seen] == [0, 1, 2]
    assert (final.final, final.bytes_done) == (True, 3)


async def test_a_failing_progress_callback_does_not_end_the_session(roads, caplog):
    async def answer(inbound):
        state = ModelState.LOADING
        response = ProvisioningResponse(command="c1", model="m", state=state, final=False)
        await inbound.progress(response)
        return Ok()

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        assert await mine.ask(LOAD, on_progress=lambda progress: 1 / 0) == Ok()
    assert "division by zero" in caplog.text


async def test_an_ask_without_an_answer_times_out_and_the_late_answer_is_ignored(roads):
    late = anyio.Event()

    async def answer(inbound):
        if inbound.message == LOAD:
            await late.wait()
        return Ok()

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        with pytest.raises(AnswerTimeout, match=r"LoadModel within 0\.05 s"):
            await mine.ask(LOAD, timeout_s=0.05)
        late.set()
        assert await mine.ask(Drain()) == Ok()


async def test_a_cancelled_ask_leaves_the_session_usable(roads):
    async with talking(roads) as (mine, _):
        for _attempt in range(20):
            with anyio.move_on_after(0):
                await mine.ask(Drain())
        assert await mine.ask(Drain()) == Ok()


async def test_too_many_asks_at_once_are_turned_away(roads, monkeypatch):
    monkeypatch.setattr(asks, "ASKS_MAX", 2)
    hold = anyio.Event()

    async def answer(inbound):
        await hold.wait()
        return Ok()

    there = Recorder(answer)
    async with talking(roads, theirs=there) as (mine, _), anyio.create_task_group() as tasks:
        tasks.start_soon(mine.ask, LOAD)
        tasks.start_soon(mine.ask, LOAD)
        await there.until(lambda: len(there.messages) == 2)
        with pytest.raises(AnswerTimeout, match="2 asks already wait"):
            await mine.ask(LOAD)
        hold.set()


async def test_more_messages_than_are_handled_at_once_are_refused_with_a_wait(roads, monkeypatch):
    monkeypatch.setattr(session, "HANDLED_AT_ONCE_MAX", 1)
    hold = anyio.Event()

    async def answer(inbound):
        await hold.wait()
        return Ok()

    there = Recorder(answer)
    async with talking(roads, theirs=there) as (mine, _), anyio.create_task_group() as tasks:
        tasks.start_soon(mine.ask, LOAD)
        await there.until(lambda: len(there.messages) == 1)
        with pytest.raises(PeerRefused) as refused:
            await mine.ask(LOAD)
        assert (refused.value.code, refused.value.retry_after_s) == ("queue_full", 1)
        hold.set()


async def test_an_unsupported_ask_says_which(roads):
    async def answer(inbound):
        return Unsupported(tag="model.load")

    async with talking(roads, theirs=Recorder(answer)) as (mine, _):
        with pytest.raises(PeerUnsupported, match=r"model\.load"):
            await mine.ask(LOAD)


async def test_an_ask_on_a_link_that_ends_raises_link_closed(roads):
    async def answer(inbound):
        await anyio.sleep_forever()

    there = Recorder(answer)
    async with talking(roads, theirs=there) as (mine, theirs), anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(LinkClosed, match="enough"):
                await mine.ask(LOAD)

        tasks.start_soon(ask)
        await there.until(lambda: there.messages)
        await theirs.close(CloseCode.BUSY, "enough")
        closed = await mine.wait_closed()
        assert (closed.code, closed.reason) == (CloseCode.BUSY, "enough")
        with pytest.raises(LinkClosed):
            await mine.tell(Drain())
        with pytest.raises(LinkClosed):
            await mine.ask(Drain())
        with pytest.raises(LinkClosed):
            await mine.open_data(EXECUTE)


async def test_an_idle_session_lives_longer_than_its_silence(roads):
    async with talking(roads, silence_max_s=0.3) as (mine, theirs):
        with anyio.move_on_after(1.0):
            await mine.wait_closed()
        assert await mine.ask(Drain()) == Ok()
        assert await theirs.ask(Drain()) == Ok()


async def test_a_data_stream_begins_with_its_request_and_is_bytes_after_that(roads):
    got = []

    async def serve(inbound, request, stream):
        got.append(request)
        data = b""
        while chunk := await stream.read():
            data += chunk
        await stream.write(data.upper())
        await stream.finish()

    async with talking(roads, theirs=Recorder(serve=serve)) as (mine, _):
        stream = await mine.open_data(EXECUTE)
        for part in (b"hello ", b"", b"there"):
            await stream.write(part)
        await stream.finish()
        assert await to_end(stream) == b"HELLO THERE"
        stream.abort()
    assert got == [EXECUTE]


async def test_a_data_stream_may_be_read_before_it_is_written(roads):
    async def serve(inbound, request, stream):
        await stream.write(b"first")
        await stream.finish()

    async with talking(roads, theirs=Recorder(serve=serve)) as (mine, _):
        reading, silent = await mine.open_data(EXECUTE), await mine.open_data(EXECUTE)
        assert await to_end(reading) == b"first"
        await silent.finish()
        assert await to_end(silent) == b"first"


async def test_what_a_server_leaves_unfinished_is_reset(roads, caplog):
    async def serve(inbound, request, stream):
        await stream.write(b"half")
        raise KeyError("oops")

    async with talking(roads, theirs=Recorder(serve=serve)) as (mine, _):
        stream = await mine.open_data(EXECUTE)
        with pytest.raises(StreamReset):
            await to_end(stream)
        assert await mine.ask(Drain()) == Ok()
    assert "oops" in caplog.text


async def test_the_server_of_an_aborted_stream_learns_of_it(roads):
    reset = anyio.Event()

    async def serve(inbound, request, stream):
        try:
            while True:
                await stream.write(bytes(1000))
        except StreamReset:
            reset.set()
            raise

    async with talking(roads, theirs=Recorder(serve=serve)) as (mine, _):
        stream = await mine.open_data(EXECUTE)
        await stream.read()
        stream.abort()
        await reset.wait()


async def test_an_opened_stream_without_a_word_harms_nobody(roads):
    served = Recorder(serve=None)
    async with talking(roads, theirs=served) as (mine, theirs):
        empty = await mine.link.open_stream()
        await empty.finish()
        with pytest.raises(StreamReset):
            await empty.read()
        assert theirs.frames_rejected == 0


async def test_what_the_body_raises_leaves_as_itself(roads):
    async with roads.linked() as (dialled, accepted), anyio.create_task_group() as tasks:
        there = Recorder()

        async def accept():
            async with Session.running(accepted, HELLO, there.on_message, there.on_stream) as side:
                await side.wait_closed()

        tasks.start_soon(accept)
        with pytest.raises(KeyError):
            async with Session.running(dialled, HELLO, there.on_message, there.on_stream):
                raise KeyError("mine")


async def test_a_refusal_told_out_of_the_blue_is_handled_as_a_message(roads):
    there = Recorder()
    async with talking(roads, theirs=there) as (mine, _):
        await mine.tell(Refused(code="x", message="y"))
        await mine.tell(RequestHealth())
        await there.until(lambda: len(there.messages) == 2)


async def to_end(stream):
    data = b""
    while chunk := await stream.read():
        data += chunk
    return data
