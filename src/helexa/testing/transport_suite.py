"""What every mesh transport must do: run these checks against yours.

    @pytest.mark.parametrize("check", transport_suite.CHECKS, ids=transport_suite.name)
    async def test_it(check): await check(MyLab())

A `Lab` opens transports of the kind under test and can lose one without a word.
Each check is an async function that raises AssertionError, and needs nothing
but the contract in `helexa.mesh.transport`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import anyio

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import (
    STREAMS_PER_LINK_MAX,
    DialFailed,
    Link,
    LinkClosed,
    OpenTransport,
    Stream,
    StreamReset,
    Transport,
    TransportSettings,
)
from helexa.protocol.ids import NodeId
from helexa.util.sockets import Address, AddressTaken

E = TypeVar("E", bound=Exception)
Call: TypeAlias = Callable[[], Coroutine[Any, Any, object]]

BIG_BYTES: Final = 16 << 20
MANY_STREAMS: Final = 300
DIAL_S: Final = 10.0
LOOPBACK: Final = TransportSettings(bind=Address("127.0.0.1", 0))


class Doomed(Protocol):
    """A node that accepts links, and dies without a goodbye when told to."""

    node_id: NodeId
    addresses: Sequence[str]

    async def die(self) -> None: ...


class Lab(Protocol):
    open_transport: OpenTransport

    def doomed(self) -> AbstractAsyncContextManager[Doomed]: ...


Check: TypeAlias = Callable[[Lab], Awaitable[None]]


def name(check: Check) -> str:
    return getattr(check, "__name__", str(check))


# --- who is at the other end


async def each_side_knows_the_others_proven_id(lab: Lab) -> None:
    ours, theirs = NodeKey.generate(), NodeKey.generate()
    async with (
        lab.open_transport(ours, LOOPBACK) as here,
        lab.open_transport(theirs, LOOPBACK) as there,
    ):
        dialled = await here.dial(theirs.node_id, there.addresses, timeout_s=DIAL_S)
        accepted = await there.accept()
        assert (dialled.peer, accepted.peer) == (theirs.node_id, ours.node_id)
        assert (dialled.dialled, accepted.dialled) == (True, False)


async def another_key_at_the_right_address_is_refused(lab: Lab) -> None:
    expected = NodeKey.generate()
    async with _two(lab) as (here, there):
        reason = await _fails_to_dial(here, expected.node_id, there.addresses)
        assert "key" in reason, f"the reason must name the key: {reason}"


async def a_dial_that_nobody_answers_ends_by_its_timeout(lab: Lab) -> None:
    async with lab.open_transport(NodeKey.generate(), LOOPBACK) as here:
        async with lab.open_transport(NodeKey.generate(), LOOPBACK) as gone:
            addresses = gone.addresses
        assert await _fails_to_dial(here, NodeKey.generate().node_id, addresses, timeout_s=0.2)


async def a_dial_without_or_with_senseless_addresses_fails_at_once(lab: Lab) -> None:
    async with lab.open_transport(NodeKey.generate(), LOOPBACK) as here:
        for addresses in ([], ["nowhere"]):
            assert await _fails_to_dial(here, NodeKey.generate().node_id, addresses, timeout_s=0.2)


async def a_taken_address_is_said_to_be_taken(lab: Lab) -> None:
    async with lab.open_transport(NodeKey.generate(), LOOPBACK) as first:
        again = TransportSettings(bind=first.bound)

        async def open_again() -> None:
            async with lab.open_transport(NodeKey.generate(), again):
                pass

        assert str(first.bound) in str(await _raises(AddressTaken, open_again))


async def an_address_is_free_again_when_its_block_ends(lab: Lab) -> None:
    key = NodeKey.generate()
    async with lab.open_transport(key, LOOPBACK) as first:
        bound = first.bound
    async with lab.open_transport(key, TransportSettings(bind=bound)) as second:
        assert second.bound == bound


async def the_addresses_carry_the_real_port_and_no_wildcard(lab: Lab) -> None:
    wild = TransportSettings(bind=Address("127.0.0.1", 0))
    async with lab.open_transport(NodeKey.generate(), wild) as transport:
        assert transport.bound.port != 0
        assert transport.addresses
        for text in transport.addresses:
            address = Address.parse(text)
            assert address.port != 0
            assert address.host not in ("0.0.0.0", "::")


# --- streams


async def both_sides_open_streams_that_carry_both_ways(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        for opener, acceptor in ((here, there), (there, here)):
            mine = await opener.open_stream()
            await mine.write(b"question")
            theirs = await acceptor.accept_stream()
            assert await _exactly(theirs, 8) == b"question"
            await theirs.write(b"answer")
            assert await _exactly(mine, 6) == b"answer"


async def a_finished_side_still_reads(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine = await here.open_stream()
        await mine.write(b"all of it")
        await mine.finish()
        await mine.finish()
        theirs = await there.accept_stream()
        assert await _to_end(theirs) == b"all of it"
        assert await theirs.read() == b""
        await theirs.write(b"heard")
        await theirs.finish()
        assert await _to_end(mine) == b"heard"


async def an_aborted_stream_is_reset_for_the_peer_and_the_link_lives(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        mine.abort()
        mine.abort()
        await _raises(StreamReset, theirs.read)
        await _raises(StreamReset, lambda: _write_forever(theirs))
        await _raises(StreamReset, mine.read)
        await _raises(StreamReset, lambda: mine.write(b"more"))
        await both_ways(here, there)


async def an_abort_ends_the_calls_that_wait_on_that_stream(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, _theirs = await _stream(here, there)
        stuck = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_raises, StreamReset, mine.read)
            tasks.start_soon(_write_until_stuck, mine, stuck)
            await stuck.wait()
            mine.abort()
        await both_ways(here, there)


async def an_abort_after_finish_takes_nothing_back(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine = await here.open_stream()
        data = random.Random(1).randbytes(40_000)  # noqa: S311  # Bytes to compare, no secret.
        await mine.write(data)
        await mine.finish()
        mine.abort()
        theirs = await there.accept_stream()
        assert await _to_end(theirs) == data


async def a_writer_stops_until_the_peer_reads(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        stuck = anyio.Event()
        sent: list[int] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_write_until_stuck, mine, stuck, sent)
            await stuck.wait()
            held = sum(sent)
            assert held < BIG_BYTES, "the transport took everything for a peer that reads nothing"
            # Another stream of the same link is not held up.
            other, far = await _stream(here, there)
            await other.write(b"still here")
            assert await _exactly(far, 10) == b"still here"
            await _exactly(theirs, held)
            while sum(sent) == held:  # noqa: ASYNC110  # No event says "one more was taken".
                await anyio.sleep(0.01)
            mine.abort()


async def big_transfers_arrive_whole_both_ways_at_once(lab: Lab) -> None:
    data = random.Random(7).randbytes(BIG_BYTES)  # noqa: S311
    expected = hashlib.sha256(data).digest()

    async def send(stream: Stream) -> None:
        for start in range(0, BIG_BYTES, 1 << 16):
            await stream.write(data[start : start + (1 << 16)])
        await stream.finish()

    async def receive(stream: Stream) -> None:
        digest = hashlib.sha256()
        while chunk := await stream.read():
            digest.update(chunk)
        assert digest.digest() == expected

    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        async with anyio.create_task_group() as tasks:
            for stream in (mine, theirs):
                tasks.start_soon(send, stream)
                tasks.start_soon(receive, stream)


async def many_streams_run_side_by_side(lab: Lab) -> None:
    async with _linked(lab) as (here, there):

        async def echo(stream: Stream) -> None:
            await stream.write(await _to_end(stream))
            await stream.finish()

        async def ask(number: int) -> None:
            stream = await here.open_stream()
            await stream.write(b"%d" % number)
            await stream.finish()
            assert await _to_end(stream) == b"%d" % number

        async with anyio.create_task_group() as tasks:
            for number in range(MANY_STREAMS):
                tasks.start_soon(ask, number)
            for _ in range(MANY_STREAMS):
                tasks.start_soon(echo, await there.accept_stream())


async def one_stream_too_many_waits_for_others_to_end(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        pairs = [await _stream(here, there) for _ in range(STREAMS_PER_LINK_MAX)]
        opened = anyio.Event()

        async def open_another() -> None:
            stream = await here.open_stream()
            await stream.write(b"x")
            opened.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_another)
            await anyio.wait_all_tasks_blocked()
            assert not opened.is_set()
            # QUIC tells of room for streams by the eighth, not one by one.
            for mine, theirs in pairs[: STREAMS_PER_LINK_MAX // 2]:
                mine.abort()
                theirs.abort()
            await opened.wait()


# --- datagrams


async def datagrams_cross_and_have_a_size(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        assert here.datagram_bytes_max >= 1_000
        async with anyio.create_task_group() as tasks:

            async def keep_sending() -> None:
                # One may be lost, and that is no fault.
                while True:
                    await here.send_datagram(b"ping")
                    await anyio.sleep(0.01)

            tasks.start_soon(keep_sending)
            assert await there.receive_datagram() == b"ping"
            tasks.cancel_scope.cancel()
        # Far beyond, since a transport may find out meanwhile that more fits.
        await _raises(ValueError, lambda: here.send_datagram(bytes(1 << 16)))


# --- ends


async def a_close_tells_the_peer_code_and_reason(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        seen: list[LinkClosed] = []

        async def note(call: Callable[[], Awaitable[object]]) -> None:
            seen.append(await _raises(LinkClosed, call))

        async with anyio.create_task_group() as tasks:
            pending: tuple[Call, ...] = (
                theirs.read,
                there.accept_stream,
                there.receive_datagram,
            )
            for call in pending:
                tasks.start_soon(note, call)
            await anyio.wait_all_tasks_blocked()
            await here.close(42, "because (code 7) of this")
        seen.append(await there.wait_closed())
        later: tuple[Call, ...] = (
            theirs.read,
            there.open_stream,
            lambda: _write_forever(theirs),
        )
        for call in later:
            await note(call)
        for closed in seen:
            assert (closed.code, closed.reason) == (42, "because (code 7) of this")
        assert (await here.wait_closed()).code == 42
        await _raises(LinkClosed, mine.read)
        await _raises(LinkClosed, here.open_stream)
        await _raises(LinkClosed, here.accept_stream)
        await here.close(1, "again")


async def a_close_without_a_reason_has_its_code(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        await here.close(9)
        assert (await there.wait_closed()).code == 9


async def a_transport_that_ends_closes_its_links(lab: Lab) -> None:
    async with lab.open_transport(NodeKey.generate(), LOOPBACK) as here:
        async with lab.open_transport(key := NodeKey.generate(), LOOPBACK) as there:
            link = await here.dial(key.node_id, there.addresses, timeout_s=DIAL_S)
            stream = await link.open_stream()
            await stream.write(b"x")
            accepted = await there.accept()
        await link.wait_closed()
        await _raises(LinkClosed, stream.read)
        await _raises(LinkClosed, accepted.accept_stream)
        await _raises(LinkClosed, there.accept)


async def a_peer_that_dies_without_a_word_closes_the_link(lab: Lab) -> None:
    async with lab.doomed() as doomed, lab.open_transport(NodeKey.generate(), LOOPBACK) as here:
        link = await here.dial(doomed.node_id, doomed.addresses, timeout_s=DIAL_S)
        stream = await link.open_stream()
        await stream.write(b"x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_raises, LinkClosed, stream.read)
            tasks.start_soon(_raises, LinkClosed, link.accept_stream)
            await anyio.wait_all_tasks_blocked()
            await doomed.die()
            assert (await link.wait_closed()).code is None


# --- cancelled calls


async def a_cancelled_read_loses_nothing(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        data = random.Random(3).randbytes(50_000)  # noqa: S311
        got = bytearray()

        async def send() -> None:
            for start in range(0, len(data), 500):
                await mine.write(data[start : start + 500])
                await anyio.lowlevel.checkpoint()
            await mine.finish()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            patience = 0
            while True:
                # Ever other moments: also the one in which the bytes just came.
                patience = (patience + 1) % 7
                with anyio.move_on_after(patience * 0.0002):
                    chunk = await theirs.read()
                    if not chunk:
                        break
                    got += chunk
        assert bytes(got) == data


async def a_cancelled_accept_loses_no_stream(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        accepted = 0

        async def send() -> None:
            for _ in range(50):
                stream = await here.open_stream()
                await stream.write(b"x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            patience = 0
            while accepted < 50:
                patience = (patience + 1) % 5
                with anyio.move_on_after(patience * 0.0002):
                    await there.accept_stream()
                    accepted += 1


async def a_cancelled_write_aborts_its_stream_and_spares_the_link(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        mine, theirs = await _stream(here, there)
        stuck = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_write_until_stuck, mine, stuck)
            await stuck.wait()
            tasks.cancel_scope.cancel()
        await _raises(StreamReset, lambda: mine.write(b"more"))
        await _raises(StreamReset, lambda: _read_forever(theirs))
        await both_ways(here, there)


async def cancelled_waits_leave_the_link_usable(lab: Lab) -> None:
    async with _linked(lab) as (here, there):
        calls: tuple[Call, ...] = (
            here.accept_stream,
            here.receive_datagram,
            here.wait_closed,
        )
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await both_ways(here, there)


async def a_cancelled_dial_or_accept_leaves_the_transport_usable(lab: Lab) -> None:
    key = NodeKey.generate()
    async with _two(lab, key) as (here, there):
        async with lab.open_transport(NodeKey.generate(), LOOPBACK) as gone:
            nowhere = gone.addresses
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(there.accept)
            tasks.start_soon(_dial_nobody, here, nowhere)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        dialled = await here.dial(key.node_id, there.addresses, timeout_s=DIAL_S)
        await both_ways(dialled, await there.accept())


CHECKS: Final[tuple[Check, ...]] = (
    each_side_knows_the_others_proven_id,
    another_key_at_the_right_address_is_refused,
    a_dial_that_nobody_answers_ends_by_its_timeout,
    a_dial_without_or_with_senseless_addresses_fails_at_once,
    a_taken_address_is_said_to_be_taken,
    an_address_is_free_again_when_its_block_ends,
    the_addresses_carry_the_real_port_and_no_wildcard,
    both_sides_open_streams_that_carry_both_ways,
    a_finished_side_still_reads,
    an_aborted_stream_is_reset_for_the_peer_and_the_link_lives,
    an_abort_ends_the_calls_that_wait_on_that_stream,
    an_abort_after_finish_takes_nothing_back,
    a_writer_stops_until_the_peer_reads,
    big_transfers_arrive_whole_both_ways_at_once,
    many_streams_run_side_by_side,
    one_stream_too_many_waits_for_others_to_end,
    datagrams_cross_and_have_a_size,
    a_close_tells_the_peer_code_and_reason,
    a_close_without_a_reason_has_its_code,
    a_transport_that_ends_closes_its_links,
    a_peer_that_dies_without_a_word_closes_the_link,
    a_cancelled_read_loses_nothing,
    a_cancelled_accept_loses_no_stream,
    a_cancelled_write_aborts_its_stream_and_spares_the_link,
    cancelled_waits_leave_the_link_usable,
    a_cancelled_dial_or_accept_leaves_the_transport_usable,
)


# --- what the checks share


@asynccontextmanager
async def _two(lab: Lab, key: NodeKey | None = None) -> AsyncIterator[tuple[Transport, Transport]]:
    """Two transports; `key` is the second one's."""
    async with (
        lab.open_transport(NodeKey.generate(), LOOPBACK) as here,
        lab.open_transport(key or NodeKey.generate(), LOOPBACK) as there,
    ):
        yield here, there


@asynccontextmanager
async def _linked(lab: Lab) -> AsyncIterator[tuple[Link, Link]]:
    key = NodeKey.generate()
    async with _two(lab, key) as (here, there):
        dialled = await here.dial(key.node_id, there.addresses, timeout_s=DIAL_S)
        yield dialled, await there.accept()


async def _stream(here: Link, there: Link) -> tuple[Stream, Stream]:
    """Both ends of a fresh stream; one byte has made it visible."""
    mine = await here.open_stream()
    await mine.write(b".")
    theirs = await there.accept_stream()
    assert await _exactly(theirs, 1) == b"."
    return mine, theirs


async def both_ways(here: Link, there: Link) -> None:
    """The link carries a question and its answer."""
    mine, theirs = await _stream(here, there)
    await theirs.write(b"answer")
    assert await _exactly(mine, 6) == b"answer"
    mine.abort()


async def _exactly(stream: Stream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = await stream.read(min(count - len(data), 1 << 18))
        assert chunk, f"the stream ended {count - len(data)} bytes early"
        data += chunk
    return bytes(data)


async def _to_end(stream: Stream) -> bytes:
    data = bytearray()
    while chunk := await stream.read():
        data += chunk
    return bytes(data)


async def _write_forever(stream: Stream) -> None:
    while True:
        await stream.write(bytes(1 << 14))


async def _read_forever(stream: Stream) -> None:
    while await stream.read():
        pass


async def _write_until_stuck(
    stream: Stream, stuck: anyio.Event, sent: list[int] | None = None
) -> None:
    """Write for ever; say so when a write has waited for long enough to be waiting."""
    counted = [] if sent is None else sent

    async def watch() -> None:
        before = -1
        while before != len(counted):
            before = len(counted)
            await anyio.sleep(0.1)
        stuck.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            while sum(counted) < 2 * BIG_BYTES:
                await stream.write(bytes(1 << 16))
                counted.append(1 << 16)
        except StreamReset:
            pass  # How the check ends it.
        finally:
            tasks.cancel_scope.cancel()


async def _dial_nobody(transport: Transport, addresses: Sequence[str]) -> None:
    # TCP is told at once that nobody listens; over UDP there is only silence.
    with suppress(DialFailed):
        await transport.dial(NodeKey.generate().node_id, addresses, timeout_s=DIAL_S)


async def _fails_to_dial(
    transport: Transport, peer: NodeId, addresses: Sequence[str], *, timeout_s: float = DIAL_S
) -> str:
    with anyio.fail_after(DIAL_S):
        failed = await _raises(
            DialFailed, lambda: transport.dial(peer, addresses, timeout_s=timeout_s)
        )
    return str(failed)


async def _raises(expected: type[E], call: Callable[[], Awaitable[object]]) -> E:
    try:
        await call()
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")
