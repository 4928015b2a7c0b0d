"""The remedies against the iroh bindings still fit the version that is installed."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iroh import iroh_ffi

from helexa.mesh.identity import NodeKey
from helexa.mesh.transport import TransportSettings
from helexa.mesh.transports import _engine, iroh
from helexa.util.sockets import Address, AddressTaken

pytestmark = pytest.mark.anyio
GENERATED_WRITE = iroh_ffi._UniffiRustBufferBuilder.write


def test_the_generated_loop_is_known_by_its_code():
    """A new version of the bindings must be looked at: is the remedy still needed, does it fit?"""
    source = inspect.getsource(iroh_ffi).partition("class _UniffiRustBufferBuilder")[2]
    body = source.partition("def write(self, value):")[2].partition("def ")[0]
    assert ("for i, byte in enumerate(value)" in body) == _engine.copies_by_byte(GENERATED_WRITE)


def test_the_remedy_is_no_loop_itself():
    assert not _engine.copies_by_byte(_engine._write_at_once)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_the_replacement_writes_what_the_original_does(chunks):
    def built(write):
        builder = iroh_ffi._UniffiRustBufferBuilder()
        for chunk in chunks:
            write(builder, chunk)
        buffer = builder.finalize()
        content = bytes(buffer.data[: buffer.len])
        buffer.free()
        return content

    assert built(_engine._write_at_once) == b"".join(chunks) == built(GENERATED_WRITE)


async def test_preparing_puts_the_replacement_in_place():
    _engine.prepare()
    assert iroh_ffi._UniffiRustBufferBuilder.write is _engine._write_at_once


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("closed by peer: because (code 4) (code 7)", (7, "because (code 4)")),
        ("closed by peer: two\nlines (code 0)", (0, "two\nlines")),
        ("closed by peer: 5", (5, "")),
        ("timed out", None),
        ("closed", None),
    ],
)
def test_code_and_reason_are_read_from_the_engines_sentence(cause, said):
    assert _engine.closed_by_peer(cause) == said


async def test_a_node_on_loopback_opens_nothing_to_the_world():
    async with iroh.open_transport(NodeKey.generate(), bound_to("127.0.0.1")) as transport:
        sockets = transport._endpoint.bound_sockets()
        assert sorted(text.rpartition(":")[0] for text in sockets) == ["127.0.0.1", "[::1]"]
        assert list(transport.addresses) == [str(transport.bound)]


async def test_a_wildcard_becomes_addresses_with_loopback_last():
    async with iroh.open_transport(NodeKey.generate(), bound_to("0.0.0.0")) as transport:
        addresses = [Address.parse(text) for text in transport.addresses]
    assert transport.bound.host == "0.0.0.0"
    assert Address("127.0.0.1", transport.bound.port) in addresses
    loopback = [address.is_loopback for address in addresses]
    assert loopback == sorted(loopback)


async def test_a_name_is_resolved_and_a_foreign_address_refused():
    async with iroh.open_transport(NodeKey.generate(), bound_to("localhost")) as transport:
        assert transport.bound.is_loopback
    with pytest.raises(AddressTaken, match=r"192\.0\.2\.77:0"):
        async with iroh.open_transport(NodeKey.generate(), bound_to("192.0.2.77")):
            pass
    with pytest.raises(AddressTaken, match=r"no\.such\.name"):
        async with iroh.open_transport(NodeKey.generate(), bound_to("no.such.name.invalid")):
            pass


async def test_a_relay_that_is_no_url_is_named():
    settings = TransportSettings(bind=Address("127.0.0.1", 0), relays=("not a url",))
    with pytest.raises(ValueError, match="not a url"):
        async with iroh.open_transport(NodeKey.generate(), settings):
            pass


async def test_what_the_body_raises_leaves_as_itself():
    with pytest.raises(KeyError):
        async with iroh.open_transport(NodeKey.generate(), bound_to("127.0.0.1")):
            raise KeyError("mine")


def bound_to(host: str) -> TransportSettings:
    return TransportSettings(bind=Address(host, 0))
