"""Links of the `tls` transport: peers that break its rules, windows, signs of life, ends."""

from __future__ import annotations

import random
import signal
import sys
from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mesh.raw_tls import (
    DIAL_S,
    linked,
    one_node,
    raw_link,
    rest,
    two_nodes,
    until,
    write_for_ever,
)
from tests.mesh.test_transports import DOOMED_NODE

from helexa.mesh.identity import NodeKey
from helexa.mesh.ticket import Ticket
from helexa.mesh.transport import (
    STREAMS_PER_LINK_MAX,
    LinkClosed,
    StreamReset,
)
from helexa.mesh.transports import _tls_channel, _tls_link, _tls_wire, tls
from helexa.mesh.transports._tls_link import VIOLATION, WINDOWS_BYTES_MAX
from helexa.mesh.transports._tls_stream import WINDOW_BYTES_MAX, WINDOW_BYTES_MIN
from helexa.mesh.transports._tls_wire import Decoder, WireViolation, frame
from helexa.testing.transport_suite import LOOPBACK, both_ways

pytestmark = pytest.mark.anyio


# --- a peer that was let in and misbehaves


OPENED = frame(_tls_wire.DATA, 1, b"x")


@pytest.mark.parametrize(
    "said",
    [
        (_tls_wire.DATA << 24 | 0xFFFFFF).to_bytes(4, "big") + (1).to_bytes(4, "big"),
        (_tls_wire.DATA << 24).to_bytes(4, "big") + (1).to_bytes(4, "big"),
        (0xFF << 24 | 5).to_bytes(4, "big") + bytes(9),
        frame(_tls_wire.CLOSE, 0, bytes(8 + _tls_wire.REASON_BYTES_MAX + 1)),
        frame(_tls_wire.CREDIT, 1, b"123"),
        frame(_tls_wire.DATAGRAM, 0, bytes(_tls_wire.DATAGRAM_BYTES_MAX + 1)),
        frame(_tls_wire.DATA, 3, b"x"),
        frame(_tls_wire.DATA, 2, b"x"),
        frame(_tls_wire.DATA, 0, b"x"),
        frame(_tls_wire.RESET, 1),
        frame(_tls_wire.STOP, 0),
        frame(_tls_wire.STOP, 2),
        frame(_tls_wire.CREDIT, 7, bytes(4)),
        OPENED + frame(_tls_wire.FIN, 1) + frame(_tls_wire.DATA, 1, b"x"),
        OPENED + frame(_tls_wire.FIN, 1) + frame(_tls_wire.FIN, 1),
        OPENED + frame(_tls_wire.RESET, 1) + frame(_tls_wire.FIN, 1),
        frame(_tls_wire.CHALLENGE, 0, bytes(32)),
        frame(_tls_wire.WELCOME),
        OPENED * (WINDOW_BYTES_MIN + 1),
        b"".join(frame(_tls_wire.FIN, 1 + 2 * n) for n in range(STREAMS_PER_LINK_MAX + 1)),
        random.Random(11).randbytes(10_000),
    ],
    ids=[
        "absurd length",
        "empty chunk",
        "unknown kind",
        "long reason",
        "short credit",
        "big datagram",
        "gap in the numbers",
        "our number",
        "number 0",
        "end of nothing",
        "stop of nothing",
        "stop of ours never opened",
        "credit for nothing",
        "data after the end",
        "two ends",
        "an end after a reset",
        "a challenge",
        "a welcome",
        "more than credit",
        "too many streams",
        "noise",
    ],
)
async def test_a_peer_that_breaks_the_protocol_loses_its_link_and_no_other(said):
    async with two_nodes() as (here, there, node_id):
        other = await here.dial(node_id, there.addresses, timeout_s=DIAL_S)
        other_end = await there.accept()
        async with raw_link(there, node_id) as (link, reader, writer):
            writer.write(said)
            closed = await link.wait_closed()
            assert closed.code == VIOLATION
            # It is told why, as far as it cares to read.
            assert b"broke the protocol" in await rest(reader)
        await both_ways(other, other_end)


async def test_a_peer_that_asks_and_never_reads_costs_a_bounded_buffer():
    """It opens streams and gives them up, each of which is owed an answer, and reads none."""
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        writer.transport.pause_reading()
        channel, highest, number = link._channel, 0, 1
        with suppress(ConnectionError):
            while link.ended is None:
                for number in range(number, number + 2_000, 2):  # noqa: B020  # Goes on from there.
                    kinds = (_tls_wire.RESET, _tls_wire.STOP)
                    writer.write(OPENED[:4] + number.to_bytes(4, "big") + b"x")
                    writer.write(b"".join(frame(kind, number) for kind in kinds))
                number += 2
                await writer.drain()
                if channel._transport is not None:
                    highest = max(highest, channel._transport.get_write_buffer_size())
        assert "does not read" in (await link.wait_closed()).reason
        assert highest < 2 * _tls_channel.SMALL_FRAMES_BYTES_MAX


async def test_pings_of_a_peer_that_never_reads_are_not_answered_without_end():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        writer.transport.pause_reading()
        for _ in range(200):
            writer.write(frame(_tls_wire.PING, 0, bytes(8)) * 5_000)
            await writer.drain()
        assert link.ended is None
        assert link._channel._transport.get_write_buffer_size() < 1 << 19


async def test_a_peer_may_stop_streams_before_anybody_accepts_them_and_the_bound_holds():
    """Streams that it gave up altogether are nobody's; finished ones wait, and count."""
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        for number in range(1, 10_001, 2):
            writer.write(frame(_tls_wire.DATA, number, b"x"))
            writer.write(frame(_tls_wire.RESET, number) + frame(_tls_wire.STOP, number))
        writer.write(frame(_tls_wire.DATA, 10_001, b"last"))
        said = b""
        while said != b"last":
            # One may be seen in the moment between its opening and its end.
            stream = await link.accept_stream()
            with suppress(StreamReset):
                said = await stream.read()
        await until(lambda: len(link._streams) == 1)


async def test_a_stream_that_the_peer_finished_and_stopped_is_still_read_whole():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, reader, writer):
        writer.write(OPENED + frame(_tls_wire.FIN, 1) + frame(_tls_wire.STOP, 1))
        stream = await link.accept_stream()
        assert await stream.read() == b"x"
        assert await stream.read() == b""
        with pytest.raises(StreamReset):
            await stream.write(b"unwanted")
        assert await reader.readexactly(8) == frame(_tls_wire.RESET, 1)
        assert not link._streams


async def test_late_words_about_a_stream_that_is_over_are_ignored():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        writer.write(OPENED + frame(_tls_wire.FIN, 1))
        stream = await link.accept_stream()
        await stream.finish()
        assert not link._streams
        writer.write(frame(_tls_wire.STOP, 1) + frame(_tls_wire.CREDIT, 1, bytes(4)))
        writer.write(frame(_tls_wire.DATA, 3, b"still served"))
        assert await (await link.accept_stream()).read() == b"still served"


async def test_windows_grow_as_they_are_read_and_the_link_bounds_them_all():
    """As much as was lent is free again when its streams are over."""
    async with linked() as (here, there):
        pairs = []
        for _ in range(2 * WINDOWS_BYTES_MAX // WINDOW_BYTES_MAX):
            mine = await here.open_stream()
            await mine.write(b"x")
            pairs.append((mine, await there.accept_stream()))
        for mine, theirs in pairs:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(mine.write, bytes(4 * WINDOW_BYTES_MAX))
                left = 4 * WINDOW_BYTES_MAX + 1
                while left:
                    left -= len(await theirs.read())
        assert pairs[0][1]._window == WINDOW_BYTES_MAX
        assert pairs[-1][1]._window == WINDOW_BYTES_MIN
        assert 0 <= there._spare < WINDOW_BYTES_MAX
        for mine, theirs in pairs:
            mine.abort()
            theirs.abort()
        await until(lambda: there._spare == WINDOWS_BYTES_MAX)


async def test_what_a_link_holds_for_streams_that_nobody_reads_is_bounded():
    async with linked() as (here, there), anyio.create_task_group() as tasks:
        streams = [await here.open_stream() for _ in range(20)]

        async def pour(stream):
            with pytest.raises(LinkClosed):
                await write_for_ever(stream)

        for stream in streams:
            tasks.start_soon(pour, stream)
        ends = [await there.accept_stream() for _ in streams]
        await until(lambda: all(each._allowance == 0 for each in ends))
        assert all(sum(map(len, each._chunks)) == WINDOW_BYTES_MIN for each in ends)
        await here.close()


async def test_a_token_does_not_wait_for_the_end_of_a_big_transfer():
    """Both wait for a slow network; the connection takes from each in turn."""
    big, plenty = 16 << 20, (1 << 30).to_bytes(4, "big")
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, reader, writer):
        bulk, small = await link.open_stream(), await link.open_stream()
        await bulk.write(b"x")
        await small.write(b"x")
        writer.transport.pause_reading()
        for stream in (bulk, small):
            writer.write(frame(_tls_wire.CREDIT, stream.number, plenty))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bulk.write, bytes(big))
            await until(lambda: link.paused)
            tasks.start_soon(small.write, b"token")
            await anyio.wait_all_tasks_blocked()
            writer.transport.resume_reading()
            heard, decoder = Tally(), Decoder()
            while heard.bytes.get(small.number, 0) < len(b"xtoken"):
                decoder.feed(memoryview(await reader.read(1 << 16)), heard)
            assert heard.bytes[bulk.number] < big
            tasks.cancel_scope.cancel()


class Tally:
    """How many bytes came of each stream."""

    def __init__(self):
        self.bytes = {}

    def on_data(self, stream, piece):
        self.bytes[stream] = self.bytes.get(stream, 0) + len(piece)

    def on_frame(self, kind, stream, body):
        pass


async def test_datagrams_are_dropped_while_the_connection_is_full():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        writer.transport.pause_reading()
        for _ in range(20_000):
            await link.send_datagram(bytes(1_200))
        assert link._channel._transport.get_write_buffer_size() < 1 << 19
        assert link.ended is None


async def test_only_the_newest_datagrams_wait_for_a_reader():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        count = _tls_link.DATAGRAMS_WAITING_MAX + 10
        for number in range(count):
            writer.write(frame(_tls_wire.DATAGRAM, 0, b"%d" % number))
        writer.write(OPENED)
        await link.accept_stream()
        assert await link.receive_datagram() == b"10"


# --- signs of life


async def test_the_round_trip_is_measured(monkeypatch):
    monkeypatch.setattr(_tls_link, "BEAT_S", 0.01)
    async with linked() as (here, there):
        await until(lambda: here.rtt_s is not None and there.rtt_s is not None)
        assert 0 < here.rtt_s < 5


async def test_a_pong_that_was_not_asked_for_measures_nothing():
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, _, writer):
        writer.write(frame(_tls_wire.PONG, 0, bytes(8)) + frame(_tls_wire.PONG, 0, b"\xff" * 8))
        writer.write(OPENED)
        await link.accept_stream()
        assert link.rtt_s is None


async def test_a_peer_that_is_stopped_but_not_dead_is_given_up(monkeypatch):
    """SIGSTOP: its kernel goes on acknowledging, nobody answers."""
    monkeypatch.setattr(_tls_link, "BEAT_S", 0.05)
    argv = [sys.executable, "-c", DOOMED_NODE, "tls"]
    async with (
        await anyio.open_process(argv) as process,
        tls.open_transport(NodeKey.generate(), LOOPBACK) as here,
    ):
        try:
            ticket = Ticket.parse((await process.stdout.receive()).decode())
            link = await here.dial(ticket.node, ticket.addresses["tls"], timeout_s=DIAL_S)
            stream = await link.open_stream()
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(LinkClosed) as closed:
                await write_for_ever(stream)
            assert closed.value.code is None
            assert "nothing arrived" in closed.value.reason
        finally:
            process.kill()


async def test_an_idle_link_lives(monkeypatch):
    monkeypatch.setattr(_tls_link, "BEAT_S", 0.01)
    async with linked() as (here, there):
        await until(lambda: here._pings > 20)
        await both_ways(here, there)


# --- ends


async def test_a_farewell_of_any_size_arrives_cut_to_its_bound():
    async with linked() as (here, there):
        await here.close(-5, "\N{SNOWMAN}" * 1_000)
        closed = await there.wait_closed()
        assert closed.code == 0
        assert closed.reason == "\N{SNOWMAN}" * (_tls_wire.REASON_BYTES_MAX // 3)


async def test_a_farewell_arrives_while_the_peer_is_pouring():
    """A socket closed over unread bytes resets the connection, and takes the farewell along."""
    async with linked() as (here, there), anyio.create_task_group() as tasks:
        stream = await there.open_stream()
        closed = []

        async def pour():
            try:
                while True:
                    await stream.write(bytes(1 << 16))
            except LinkClosed as error:
                closed.append(error)

        tasks.start_soon(pour)
        await here.accept_stream()
        await here.close(7, "enough")
        await there.wait_closed()
        await until(lambda: bool(closed))
        assert (closed[0].code, closed[0].reason) == (7, "enough")


async def test_two_that_say_farewell_at_once_do_not_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(_tls_channel, "PART_S", 3_600)
    async with linked() as (here, there):
        await here.close(1, "from here")
        await there.close(2, "from there")
        for link, code in ((here, 1), (there, 2)):
            await link._channel.gone.wait()
            assert (await link.wait_closed()).code == code


async def test_a_peer_that_ignores_the_farewell_is_cut_off(monkeypatch):
    monkeypatch.setattr(_tls_channel, "PART_S", 0.05)
    async with one_node() as (there, node_id), raw_link(there, node_id) as (link, reader, _):
        await link.close(1, "go")
        assert b"go" in await rest(reader)
        await link._channel.gone.wait()


async def test_a_link_that_used_up_its_stream_numbers_says_so():
    async with linked() as (here, there):
        here._next = _tls_link._NUMBER_MAX + 1
        stream = await here.open_stream()
        with pytest.raises(LinkClosed, match="used up"):
            await stream.write(b"x")
        await there.wait_closed()


async def test_an_opened_stream_that_never_wrote_takes_no_number():
    async with linked() as (here, there):
        (await here.open_stream()).abort()
        await both_ways(here, there)
        assert here._next == 3


# --- frames


frames = st.lists(
    st.one_of(
        st.tuples(st.just(_tls_wire.DATA), st.integers(0, 9), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just(_tls_wire.FIN), st.integers(0, 9), st.just(b"")),
        st.tuples(st.just(_tls_wire.CREDIT), st.integers(0, 9), st.binary(min_size=4, max_size=4)),
        st.tuples(st.just(_tls_wire.DATAGRAM), st.just(0), st.binary(max_size=300)),
    ),
    max_size=12,
)


class Heard:
    """What a decoder told, with the pieces of a stream put together again."""

    def __init__(self):
        self.all = []

    def on_data(self, stream, piece):
        assert piece
        self.all += [(_tls_wire.DATA, stream, bytes([each])) for each in piece]

    def on_frame(self, kind, stream, body):
        self.all.append((kind, stream, body))


@given(frames, st.lists(st.integers(1, 400), min_size=1))
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent, cuts):
    data, heard, decoder = b"".join(frame(*each) for each in sent), Heard(), Decoder()
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        decoder.feed(memoryview(data[at : at + size]), heard)
        at, turn = at + size, turn + 1
    expected = Heard()
    for kind, stream, body in sent:
        (expected.on_data(stream, body) if kind == _tls_wire.DATA else None) or (
            kind != _tls_wire.DATA and expected.on_frame(kind, stream, body)
        )
    assert heard.all == expected.all


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_frames_or_a_violation_and_little_is_held(pieces):
    decoder, heard = Decoder(), Heard()
    try:
        for piece in pieces:
            decoder.feed(memoryview(piece), heard)
            assert len(decoder._held) < 8 + _tls_wire.DATAGRAM_BYTES_MAX
    except WireViolation:
        pass
