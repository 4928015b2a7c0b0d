"""TLS in front of the HTTP server: what serves, what is refused, and what changes meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.util.certificates import HOST, Authority
from tests.util.http_parts import Caller, raw_client, small_buffers

from helexa.util.http_server import (
    App,
    HttpServer,
    Receive,
    Scope,
    Send,
    ServerLimits,
    UntilDisconnect,
    read_body,
    serving,
)
from helexa.util.sockets import Address, listen_tcp
from helexa.util.tls_pair import TlsFiles, TlsUnusable, pinned, read_pair
from helexa.util.tls_server import TlsServer

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(scope, receive, bytes_max=1 << 20, timeout_s=5)
    said = scope["scheme"].encode() + b" " + body
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def tls_server(
    files: TlsFiles, app: App = hello, *, grace_s: float = 5.0, **limits: Any
) -> AsyncIterator[tuple[HttpServer, TlsServer, int]]:
    listener = listen_tcp(Address("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with (
        TlsServer.running(files, name="test", every_s=0.01) as tls,
        serving(
            app,
            [listener],
            ServerLimits(**limits),
            error_body=lambda status, message: b"%d %s" % (status, message.encode()),
            shutdown_grace_s=grace_s,
            tls=tls,
        ) as server,
    ):
        yield server, tls, port


@asynccontextmanager
async def tls_client(port: int, context: ssl.SSLContext) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=HOST
    )
    try:
        yield Caller(reader, writer, 0)
    finally:
        writer.transport.abort()


async def ask(client: Caller) -> bytes:
    await client.say(GET)
    await client.reader.readuntil(b"\r\n\r\n")
    return await client.reader.readexactly(6)


def serial_of(client: Caller) -> str:
    certificate: dict[str, Any] = client.writer.get_extra_info("peercert")
    return str(certificate["serialNumber"])


async def test_a_client_that_trusts_the_root_is_served(authority: Authority) -> None:
    async with (
        tls_server(authority.files()) as (_, tls, port),
        tls_client(port, authority.client()) as client,
    ):
        assert [await ask(client) for _ in range(3)] == [b"https "] * 3
        seen: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
        assert seen.selected_alpn_protocol() == "http/1.1"
        assert seen.version() in ("TLSv1.2", "TLSv1.3")
        assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert tls.pair.names == (HOST,)
        assert tls.pair.valid_from_s < time.time() < tls.pair.valid_until_s


async def test_a_client_of_the_oldest_version_that_is_spoken_is_served(
    authority: Authority,
) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        tls_server(authority.files()) as (_, _, port),
        tls_client(port, context) as client,
    ):
        assert await ask(client) == b"https "


async def test_a_client_on_the_same_machine_can_hold_to_the_certificate_alone(
    authority: Authority,
) -> None:
    files = authority.files(days=-1)
    stranger = authority.files("stranger")
    async with tls_server(files) as (_, _, port):
        async with tls_client(port, pinned(files.certificate)) as client:
            assert await ask(client) == b"https "
        with pytest.raises(ssl.SSLCertVerificationError):
            async with tls_client(port, pinned(stranger.certificate)):
                pass


@pytest.mark.parametrize("said", [GET, b"\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\x80\x2e\x01"])
async def test_who_speaks_no_tls_is_told_so(said: bytes, authority: Authority) -> None:
    async with tls_server(authority.files()) as (server, _, port), raw_client(port) as client:
        await client.say(said)
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"400 This port speaks TLS: use https://.")
        assert server.connections == 0


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_does_not_end_is_ended(said: bytes, authority: Authority) -> None:
    async with tls_server(authority.files(), handshake_timeout_s=0.1) as (server, _, port):
        async with raw_client(port) as client:
            await client.say(said)
            await client.gone()
        async with tls_client(port, authority.client()) as client:
            assert await ask(client) == b"https "
        assert server.connections <= 1


async def test_what_only_looks_like_tls_is_ended(authority: Authority) -> None:
    async with tls_server(authority.files()) as (_, _, port), raw_client(port) as client:
        await client.say(b"\x16\x03\x01\x00\x05hello" * 20)
        await client.gone()


async def test_handshakes_have_no_more_places_than_connections(authority: Authority) -> None:
    async with tls_server(authority.files(), connections_max=2) as (_, _, port):
        async with raw_client(port) as first, raw_client(port) as second:
            for silent in (first, second):
                await silent.say(b"\x16")
            async with raw_client(port) as third:
                await third.say(b"\x16")
                await third.gone()
        answer = b""
        while not answer:
            # That the first two left may be seen later than this one's coming.
            with suppress(ConnectionError):
                async with tls_client(port, authority.client()) as client:
                    answer = await ask(client)


async def test_a_new_pair_is_for_new_connections_and_the_old_ones_go_on(
    authority: Authority,
) -> None:
    async with (
        tls_server(authority.files()) as (_, tls, port),
        tls_client(port, authority.client()) as old,
    ):
        before = tls.pair
        assert await ask(old) == b"https "
        authority.files()
        while tls.pair is before:
            await tls.read_again()
        async with tls_client(port, authority.client()) as new:
            assert await ask(new) == b"https "
            assert serial_of(new) != serial_of(old)
        assert await ask(old) == b"https "
        assert tls.fault == ""


async def test_a_new_pair_that_cannot_serve_leaves_the_old_one_and_says_why(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.files()
    async with tls_server(files) as (_, tls, port):
        before = tls.pair
        files.key.write_bytes(authority.files("other").key.read_bytes())
        while not tls.fault:
            await tls.read_again()
        assert tls.fault.startswith(f"{files.key}: does not belong to")
        assert tls.fault in caplog.text
        assert tls.pair is before
        async with tls_client(port, authority.client()) as client:
            assert await ask(client) == b"https "
        authority.files()
        while tls.pair is before:
            await tls.read_again()
        assert tls.fault == ""


async def test_the_files_are_read_again_when_somebody_asks(authority: Authority) -> None:
    async with TlsServer.running(authority.files(), name="test", every_s=3600) as tls:
        before = tls.pair
        await anyio.wait_all_tasks_blocked()
        authority.files()
        tls.reread()
        while tls.pair is before:
            await tls.read_again()


@pytest.mark.parametrize(("days", "words"), [(-1, "expired on"), (3, "will expire on")])
def test_a_pair_at_its_end_serves_with_a_warning(
    days: int, words: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TlsServer(authority.files(days=days), "gateway")
    assert words in caplog.text
    assert "server.crt.pem" in caplog.text


def spoiled(authority: Authority, how: str) -> TlsFiles:
    files, other = authority.files(), authority.files("other")
    match how:
        case "no certificate":
            files.certificate.unlink()
        case "no key":
            files.key.unlink()
        case "a folder":
            files.key.unlink()
            files.key.mkdir()
        case "another's key":
            other.key.replace(files.key)
        case "the wrong order":
            return authority.files(leaf_first=False)
        case "a passphrase":
            return authority.files(passphrase=b"secret")
        case "the files exchanged":
            return TlsFiles(certificate=files.key, key=files.certificate)
        case "a damaged certificate":
            text = files.certificate.read_bytes().split(b"\n")
            files.certificate.write_bytes(b"\n".join([text[0], b"AAAA" + text[1][4:], *text[2:]]))
        case "a damaged key":
            files.key.write_bytes(files.key.read_bytes()[:60] + b"\n-----END PRIVATE KEY-----\n")
        case "an empty certificate":
            files.certificate.write_bytes(b"")
        case "a huge file":
            files.certificate.write_bytes(files.certificate.read_bytes() * 2000)
    return files


@pytest.mark.parametrize(
    ("how", "file", "reason"),
    [
        ("no certificate", "server.crt.pem", "cannot be read: No such file"),
        ("no key", "server.key.pem", "cannot be read: No such file"),
        ("a folder", "server.key.pem", "cannot be read: Is a directory"),
        ("another's key", "server.key.pem", "does not belong to the first certificate"),
        ("the wrong order", "server.key.pem", "stands before those that signed it"),
        ("a passphrase", "server.key.pem", "has a passphrase"),
        ("the files exchanged", "server.key.pem", "no certificate in PEM"),
        ("a damaged certificate", "server.crt.pem", "damaged"),
        ("a damaged key", "server.key.pem", "damaged"),
        ("an empty certificate", "server.crt.pem", "no certificate in PEM"),
        ("a huge file", "server.crt.pem", "more than 1048576 bytes"),
    ],
)
def test_a_pair_that_cannot_serve_says_which_file_and_why(
    how: str, file: str, reason: str, authority: Authority
) -> None:
    with pytest.raises(TlsUnusable) as refused:
        read_pair(spoiled(authority, how))
    assert str(authority.folder / file) in str(refused.value)
    assert reason in str(refused.value)


async def test_a_large_answer_arrives_whole_and_a_client_that_does_not_read_is_dropped(
    authority: Authority,
) -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        with UntilDisconnect(scope) as client:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(400 if scope["path"] == "/" else 1 << 30):
                part = {"type": "http.response.body", "body": b"x" * 10_000, "more_body": True}
                await send(part)
            await send({"type": "http.response.body", "body": b""})
        if client.gone:
            ended.set()

    async with tls_server(authority.files(), endless, write_stall_s=0.2) as (_, _, port):
        async with tls_client(port, authority.client()) as client:
            await client.say(GET.replace(b"host: x", b"host: x\r\nconnection: close"))
            assert (await client.reader.read()).count(b"x") == 4_000_000
        async with tls_client(port, authority.client()) as client:
            small_buffers(client.writer)
            await client.say(GET.replace(b"/ ", b"/endless ", 1))
            await ended.wait()


async def test_leaving_ends_handshakes_and_idle_connections(authority: Authority) -> None:
    async with tls_server(authority.files(), grace_s=3600) as (server, _, port):
        silent = raw_client(port)
        idle = tls_client(port, authority.client())
        first, second = await silent.__aenter__(), await idle.__aenter__()
        assert await ask(second) == b"https "
        server.stop_accepting()
        await first.gone()
        await second.gone()
    for each in (silent, idle):
        await each.__aexit__(None, None, None)
