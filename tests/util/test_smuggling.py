"""One request that two readers could take for two, or for another one: refused, or read one way.

Behind each there is a second request on the same connection. Where the first is in doubt the
second never reaches the app.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.util.http_parts import raw_client

from helexa.util.http_server import Receive, Scope, Send, ServerLimits, read_body, serving
from helexa.util.sockets import Address, listen_tcp

pytestmark = pytest.mark.anyio

SECOND = b"GET /second HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
POST = b"POST /first HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
BODY = b"0\r\n\r\n"

REFUSED = {
    "a length and chunks": (POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "chunks and a length": (POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n", 400),
    "two lengths": (POST + b"content-length: 0\r\ncontent-length: 70\r\n\r\n", 400),
    "the same length twice": (POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok", 400),
    "a list of lengths": (POST + b"content-length: 2, 2\r\n\r\nok", 400),
    "a signed length": (POST + b"content-length: +2\r\n\r\nok", 400),
    "a hexadecimal length": (POST + b"content-length: 0x2\r\n\r\nok", 400),
    "a length of two words": (POST + b"content-length: 1 2\r\n\r\nok", 400),
    "an empty length": (POST + b"content-length: \r\n\r\n", 400),
    "a length beyond numbers": (POST + b"content-length: 99999999999999999999\r\n\r\n", 400),
    "a negative length": (POST + b"content-length: -5\r\n\r\n", 400),
    "identity": (POST + b"transfer-encoding: identity\r\n\r\n", 501),
    "identity, then chunked": (POST + b"transfer-encoding: identity, chunked\r\n\r\n" + BODY, 501),
    "gzip, then chunked": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + BODY, 501),
    "chunked, then identity": (POST + b"transfer-encoding: chunked, identity\r\n\r\n" + BODY, 400),
    "chunked twice": (POST + b"transfer-encoding: chunked, chunked\r\n\r\n" + BODY, 400),
    "two lines of chunked": (
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n" + BODY,
        400,
    ),
    "a line of identity, one of chunked": (
        POST + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n" + BODY,
        501,
    ),
    "almost chunked": (POST + b"transfer-encoding: xchunked\r\n\r\n" + BODY, 501),
    "chunked in quotes": (POST + b'transfer-encoding: "chunked"\r\n\r\n' + BODY, 501),
    "chunked behind a vertical tab": (POST + b"transfer-encoding: \x0bchunked\r\n\r\n" + BODY, 400),
    "an empty encoding beside a length": (
        POST + b"transfer-encoding: \r\ncontent-length: 2\r\n\r\nok",
        400,
    ),
    "chunks in HTTP/1.0": (
        b"POST /first HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + BODY,
        400,
    ),
    "a folded encoding": (POST + b"transfer-encoding:\r\n chunked\r\n\r\n" + BODY, 400),
    "a space before the colon": (POST + b"transfer-encoding : chunked\r\n\r\n" + BODY, 400),
    "a space before a length's colon": (POST + b"content-length : 2\r\n\r\nok", 400),
    "a folded header": (POST + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nok", 400),
    "a header that begins with a space": (
        b"POST /first HTTP/1.1\r\n x: y\r\nhost: x\r\n\r\n",
        400,
    ),
    "bare line feeds": (b"POST /first HTTP/1.1\nhost: x\ncontent-length: 2\n\nok", 400),
    "one bare line feed": (POST + b"x: a\ncontent-length: 2\r\n\r\nok", 400),
    "a bare carriage return between headers": (POST + b"x: a\rcontent-length: 2\r\n\r\n", 400),
    "a bare carriage return in a value": (POST + b"x: a\rb\r\n\r\n", 400),
    "a NUL in a value": (POST + b"x: a\0b\r\n\r\n", 400),
    "a NUL in a name": (POST + b"x\0y: a\r\n\r\n", 400),
    "a control character in a value": (POST + b"x: a\x01b\r\n\r\n", 400),
    "a name beyond ASCII": (POST + b"x\xff: a\r\n\r\n", 400),
    "no name": (POST + b": x\r\n\r\n", 400),
    "no colon": (POST + b"x\r\n\r\n", 400),
    "an extension that ends in a line feed": (CHUNKED + b"2;a=b\nok\r\n0\r\n\r\n", 400),
    "an extension with a quoted line break": (CHUNKED + b'2;a="\r\nok\r\n0\r\n\r\n', 400),
    "chunks by line feeds": (CHUNKED + b"2\nok\n0\n\n", 400),
    "a space behind a size": (CHUNKED + b"2 \r\nok\r\n0\r\n\r\n", 400),
    "a space before a size": (CHUNKED + b" 2\r\nok\r\n0\r\n\r\n", 400),
    "a size beyond numbers": (CHUNKED + b"10000000000000002\r\nok\r\n0\r\n\r\n", 400),
    "a size with a prefix": (CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n", 400),
    "a negative size": (CHUNKED + b"-1\r\nok\r\n0\r\n\r\n", 400),
    "no size": (CHUNKED + b"\r\n\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"2\r\nokXX0\r\n\r\n", 400),
    "a length among the trailers": (
        CHUNKED + b"2\r\nok\r\n0\r\ncontent-length: 50\r\n\r\n",
        400,
    ),
    "an encoding among the trailers": (
        CHUNKED + b"2\r\nok\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "two hosts": (b"GET /first HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "the same host twice": (b"GET /first HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
    "no host": (b"GET /first HTTP/1.1\r\n\r\n", 400),
    "a host of two words": (b"GET /first HTTP/1.1\r\nhost: x y\r\n\r\n", 400),
    "a host with a path": (b"GET /first HTTP/1.1\r\nhost: x/y\r\n\r\n", 400),
    "a target that is an authority": (b"GET evil:80 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target without a slash": (b"GET first HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a star": (b"GET * HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a fragment": (b"GET /first#x HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /first x HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "tabs for spaces": (b"GET\t/first\tHTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a control character in the target": (b"GET /\x01 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target beyond ASCII": (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a method in lower case": (b"get /first HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a method that nobody knows": (b"FOO /first HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "another protocol's method": (b"M-SEARCH /first HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
    "another protocol": (b"DESCRIBE /first RTSP/1.0\r\nhost: x\r\n\r\n", 501),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
    "HTTP/2 by name": (b"GET /first HTTP/2.0\r\nhost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /first\r\n\r\n", 505),
    "HTTP/0.9 by name": (b"GET /first HTTP/0.9\r\nhost: x\r\n\r\n", 505),
    "HTTP/1.2": (b"GET /first HTTP/1.2\r\nhost: x\r\n\r\n", 400),
    "HTTP/1.10": (b"GET /first HTTP/1.10\r\nhost: x\r\n\r\n", 400),
    "http in lower case": (b"GET /first http/1.1\r\nhost: x\r\n\r\n", 400),
    "a space before the method": (b" GET /first HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "two carriage returns": (b"GET /first HTTP/1.1\r\nhost: x\r\r\n\r\n", 400),
    "an expectation of something else": (POST + b"expect: y\r\ncontent-length: 2\r\n\r\nok", 417),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}

ONE_WAY = {
    "chunked in capitals": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n" + BODY, b""),
    "chunked behind a tab": (POST + b"transfer-encoding:\tchunked \r\n\r\n" + BODY, b""),
    "extensions": (CHUNKED + b'2;a=b;c="d"\r\nok\r\n0\r\n\r\n', b"ok"),
    "leading zeros": (CHUNKED + b"0000000000000000000000002\r\nok\r\n0\r\n\r\n", b"ok"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\nx-late: 1\r\n\r\n", b"ok"),
    "a value beyond ASCII": (POST + b"x: \xff\r\n\r\n", b""),
    "a body of GET": (b"GET /first HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "an absolute target": (b"GET http://evil:99/first HTTP/1.1\r\nhost: x\r\n\r\n", b""),
    "empty lines in front": (b"\r\n\r\nGET /first HTTP/1.1\r\nhost: x\r\n\r\n", b""),
    "a length by another name": (POST + b"content_length: 70\r\n\r\n", b""),
    "a length that is named as a hop's": (
        POST + b"connection: content-length\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
    ),
}

ENDS_IT = {
    "a client that closes": b"GET /first HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "HTTP/1.0": b"GET /first HTTP/1.0\r\nhost: x\r\n\r\n",
    "HTTP/1.0 that would stay": b"GET /first HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    "an offer to upgrade": POST
    + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok",
}


class Heard:
    """What reached the app."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, bytes]] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, bytes_max=1000, timeout_s=5)
        self.requests.append((scope["path"], body))
        self.headers.append(scope["headers"])
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})

    async def says(self, data: bytes) -> list[int]:
        """The statuses of all answers, until the server closes."""
        async with raw_client(self.port) as client:
            await client.say(data)
            said = await client.reader.read()
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", said)]


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    async with _serving(Heard()) as one:
        yield one


@asynccontextmanager
async def _serving(one: Heard) -> AsyncIterator[Heard]:
    listener = listen_tcp(Address("127.0.0.1", 0))
    one.port = listener.getsockname()[1]
    async with serving(
        one.app,
        [listener],
        ServerLimits(),
        error_body=lambda status, _message: b"%d" % status,
        shutdown_grace_s=5,
    ):
        yield one


@pytest.mark.parametrize("name", REFUSED)
async def test_what_could_be_read_in_two_ways_ends_the_connection(name: str, heard: Heard) -> None:
    data, status = REFUSED[name]
    assert await heard.says(data + SECOND) == [status]
    assert heard.requests == []


@pytest.mark.parametrize("name", ONE_WAY)
async def test_what_can_be_read_in_one_way_is_read_in_that_one(name: str, heard: Heard) -> None:
    data, body = ONE_WAY[name]
    assert await heard.says(data + SECOND) == [200, 200]
    assert heard.requests == [("/first", body), ("/second", b"")]


@pytest.mark.parametrize("name", ENDS_IT)
async def test_behind_the_last_request_of_a_connection_nothing_is_read(
    name: str, heard: Heard
) -> None:
    assert await heard.says(ENDS_IT[name] + SECOND) == [200]
    assert [path for path, _ in heard.requests] == ["/first"]


async def test_a_trailer_adds_nothing_to_the_headers(heard: Heard) -> None:
    data = CHUNKED + b"2\r\nok\r\n0\r\nauthorization: Bearer late\r\n\r\n"
    assert await heard.says(data + SECOND) == [200, 200]
    assert heard.headers[0] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_a_refusal_before_the_body_that_was_to_be_asked_for_ends_the_connection() -> None:
    class Refusing(Heard):
        async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.requests.append((scope["path"], b""))
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async with _serving(Refusing()) as refusing:
        expecting = POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(SECOND)
        assert await refusing.says(expecting + SECOND) == [401]
        # With the body already here there is no doubt.
        expecting = POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\nok"
        assert await refusing.says(expecting + SECOND) == [401, 401]


async def test_more_requests_at_once_than_may_wait_end_the_connection(heard: Heard) -> None:
    one = b"GET /many HTTP/1.1\r\nhost: x\r\n\r\n"
    assert await heard.says(one * 50 + SECOND) == [200] * 51
    async with raw_client(heard.port) as client:
        await client.say(one * 2000)
        try:
            said = await client.reader.read()
        except ConnectionError:
            said = b""
        assert said.count(b"HTTP/1.1 ") < 2000
