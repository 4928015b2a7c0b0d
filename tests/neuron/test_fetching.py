"""Pictures from URLs that strangers name: what is asked, what is never asked, what is told."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.util.http_parts import Caller, far_side

from helexa.neuron.serving.pictures.addresses import Ip, is_public
from helexa.neuron.serving.pictures.fetching import (
    AT_ONCE_MAX,
    Fetcher,
    FetchRules,
    NotFetched,
    Room,
    looked_up,
    own_addresses,
)
from helexa.neuron.serving.pictures.urls import UrlRefused, parsed
from helexa.protocol.errors import Busy

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
HERE: Ip = ipaddress.ip_address("127.0.0.1")
PUBLIC: Ip = ipaddress.ip_address("93.184.216.34")
NOT_TOLD = "could not be fetched from there"


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # Of one that only claims to be large, nothing else is ever read.
    rows = zlib.compress(b"\0" * (width + 1) * height if width * height < 1 << 20 else b"")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


PNG = answer(png(), b"content-type: image/png")


def saying(*answers: bytes) -> Callable[[Caller], Awaitable[None]]:
    """One answer a connection, the last of them again and again."""

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(answers[min(caller.number, len(answers) - 1)])
        await caller.gone()

    return script


def fetcher(
    port: int,
    *found: Sequence[Ip],
    networks: Sequence[ipaddress.IPv4Network] = (LOOPBACK,),
    timeout_s: float = PATIENCE_S,
    bytes_max: int = 1 << 20,
    own: Sequence[Ip] = (),
    tls: ssl.SSLContext | None = None,
) -> Fetcher:
    """Every name is at `found`, one after the other where there are several."""
    answers = list(found or ((HERE,),))

    async def resolve(host: str, _port: int) -> Sequence[Ip]:
        assert host
        return answers.pop(0) if len(answers) > 1 else answers[0]

    rules = FetchRules(
        ports=(80, 443, port), networks=networks, timeout_s=timeout_s, bytes_max=bytes_max
    )
    return Fetcher(rules, resolve=resolve, own=lambda: own, tls=tls)


async def fetched(one: Fetcher, text: str, room: int = 1 << 30) -> bytes:
    with anyio.fail_after(PATIENCE_S):
        return await one.fetch(one.read(text), Room(room))


async def refusal(one: Fetcher, text: str) -> NotFetched:
    with pytest.raises(NotFetched) as caught:
        await fetched(one, text)
    return caught.value


# --- addresses


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1"),
        *("192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9"),
        *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::"),
        *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
        "2606:4700::1111%eth0",
    ],
)
def test_addresses_that_are_not_the_internet(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text", ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::8a"]
)
def test_addresses_that_are_the_internet(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_what_the_library_calls_private_is_never_public(address: Ip) -> None:
    odd = address.is_private or address.is_loopback or address.is_link_local
    if odd or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_not_made_public_by_wrapping_it(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        inside = int(ipaddress.IPv6Address(prefix)) | int(address)
        assert not is_public(ipaddress.IPv6Address(inside))
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))


# --- URLs


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://a.org/x", "file:///etc/passwd", "gopher://a.org/", "//a.org/x", "a.org/x", ""),
        *(
            "http://user@a.org/",
            "http://user:pw@a.org/",
            "http://a.org@127.0.0.1/",
            "http://@a.org/",
        ),
        *("http://a.org:22/", "https://a.org:8443/", "http://a.org:0/", "http://a.org:99999/"),
        *(
            "http:///x",
            "http://a.org\\@b.org/",
            "http://a.org/\r\nx: y",
            "http://a.org/ x",
            "http://a b/",
        ),
        *("http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/", "http://127.1/"),
        *("http://0x7f000001/", "http://1.2.3.4.5/", "http://127.0.0.1./", "http://a.1/"),
        *(
            "http://[::1%25eth0]/",
            "http://[::1/",
            "http://::1/",
            "http://[v1.x]/",
            "http://a.org]/",
        ),
        *("http://\u2460\u2461.org/", "http://b\u00fccher.example/", "http://%31%32%37.0.0.1/"),
        *(
            "http://a..org/",
            "http://-a.org/",
            "http://" + "a" * 64 + ".org/",
            "http://a.org/" + "x" * 2100,
        ),
        *(
            "http://a.org:/x",
            "http:/a.org/",
            "http:a.org",
            "javascript:alert(1)",
            "http://a.org\t/",
        ),
    ],
)
def test_urls_that_are_not_plainly_a_host_and_a_path(text: str) -> None:
    with pytest.raises(UrlRefused):
        parsed(text, ports=(80, 443))


def test_a_url_is_read_as_it_is_sent() -> None:
    plain = parsed("HTTPS://Pictures.Example.org/a%20b?c=d&e#f", ports=(80, 443))
    assert (plain.host, plain.port, plain.path) == ("pictures.example.org", 443, "/a%20b?c=d&e")
    assert plain.authority == "pictures.example.org"
    six = parsed("http://[2606:4700:0::1111]", ports=(80, 443))
    assert (six.host, six.authority, six.path) == ("2606:4700::1111", "[2606:4700::1111]", "/")


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", ""]))
def test_reading_a_url_only_ever_refuses(text: str, scheme: str) -> None:
    try:
        read = parsed(scheme + text, ports=(80, 443))
    except UrlRefused:
        return
    assert read.host.isascii()
    assert "@" not in read.authority
    assert not set(" \r\n\t") & set(read.path)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("a.example.org", True),
        ("own.test", True),
        ("example.org", False),
        ("evil-example.org", False),
    ],
)
def test_a_list_of_hosts_leaves_out_all_others(host: str, is_allowed: bool) -> None:
    allowed = ("*.example.org", "own.test")
    if is_allowed:
        assert parsed(f"http://{host}/", ports=(80,), hosts=allowed).host == host
    else:
        with pytest.raises(UrlRefused, match="not fetched from here"):
            parsed(f"http://{host}/", ports=(80,), hosts=allowed)


# --- fetching


async def test_a_picture_comes_as_it_is_and_the_request_says_only_what_is_needed() -> None:
    async with far_side(saying(PNG)) as side:
        got = await fetched(fetcher(side.port), f"http://pictures.test:{side.port}/a?b=c")
    assert got == png()
    (request,) = side.requests
    head, *lines = request.split(b"\r\n")
    assert head == b"GET /a?b=c HTTP/1.1"
    assert f"host: pictures.test:{side.port}".encode() in lines
    names = {line.partition(b":")[0] for line in lines if line}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent", b"connection"}


async def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with far_side(saying(answer(b"proxied"))) as proxy, far_side(saying(PNG)) as side:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await fetched(fetcher(side.port), f"http://a.test:{side.port}/") == png()
    assert not proxy.callers


@pytest.mark.parametrize(
    "found",
    [
        ("127.0.0.1",),
        ("93.184.216.34", "127.0.0.1"),
        ("10.0.0.7",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("169.254.169.254",),
        (),
    ],
)
async def test_a_name_with_any_address_inside_is_never_connected_to(found: Sequence[str]) -> None:
    async with far_side(saying(PNG)) as side:
        addresses = tuple(map(ipaddress.ip_address, found))
        one = fetcher(side.port, addresses, networks=())
        error = await refusal(one, f"http://inside.test:{side.port}/")
    assert str(error) == NOT_TOLD
    assert not side.callers


async def test_an_address_of_this_machine_is_inside_however_public_it_is() -> None:
    one = fetcher(80, (PUBLIC,), networks=(), own=(PUBLIC,))
    error = await refusal(one, "http://me.test/")
    assert str(error) == NOT_TOLD
    assert "not public" in error.why


async def test_a_name_that_turns_private_after_it_was_checked_gains_nothing() -> None:
    """The second answer would lead inside; it is never asked for, as the first was connected to."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[Ip]:
        asked.append(host)
        return (HERE,) if len(asked) == 1 else (ipaddress.ip_address("10.0.0.1"),)

    async with far_side(saying(PNG)) as side:
        rules = FetchRules(ports=(side.port,), networks=(LOOPBACK,))
        one = Fetcher(rules, resolve=resolve, own=tuple)
        assert await fetched(one, f"http://rebinding.test:{side.port}/") == png()
    assert asked == ["rebinding.test"]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://localhost/",
        "http://user:pw@a.test/",
        "file:///etc/passwd",
        "gopher://a.test/",
        "http://a.test:6379/",
        "",
    ],
)
async def test_a_redirect_is_held_against_the_same_rules(target: str) -> None:
    leads = answer(b"", b"location: " + target.encode(), status=b"302 Found")

    async def resolve(host: str, _port: int) -> Sequence[Ip]:
        return (ipaddress.ip_address("10.0.0.1"),) if host == "localhost" else (HERE,)

    async with far_side(saying(leads)) as side:
        # Only the far side's own address is let through, and not by its number.
        here = ipaddress.ip_network("127.0.0.1/32")
        rules = FetchRules(ports=(80, side.port), networks=(here,), timeout_s=PATIENCE_S)
        one = Fetcher(rules, resolve=resolve, own=tuple)
        error = await refusal(one, f"http://a.test:{side.port}/")
    assert str(error) == NOT_TOLD
    assert len(side.callers) <= (4 if target == "" else 1)


async def test_redirects_are_followed_to_a_picture_three_times_at_most() -> None:
    on = answer(b"", b"location: /next", status=b"302 Found")
    async with far_side(saying(on, on, on, PNG)) as side:
        assert await fetched(fetcher(side.port), f"http://a.test:{side.port}/") == png()
    async with far_side(saying(on)) as side:
        error = await refusal(fetcher(side.port), f"http://a.test:{side.port}/")
    assert str(error) == NOT_TOLD
    assert len(side.callers) == 4


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (answer(b"<html>", b"content-type: text/html"), "is none of png"),
        (answer(b"<html>" + b"x" * 99, b"content-type: image/png"), "is none of png"),
        (answer(png(), b"content-type: image/svg+xml", b"content-encoding: gzip"), "packed"),
        (answer(gzip.compress(bytes(1 << 20)), b"content-encoding: gzip"), "packed"),
        (answer(b"", status=b"404 Not Found"), "status 404"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "more than the 1048576 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9" + b"9" * 30 + b"\r\n\r\n", NOT_TOLD),
        (b"SSH-2.0-OpenSSH_9.2\r\n", NOT_TOLD),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000, NOT_TOLD),
    ],
)
async def test_an_answer_that_is_no_picture(said: bytes, told: str) -> None:
    async with far_side(saying(said)) as side:
        error = await refusal(fetcher(side.port), f"http://a.test:{side.port}/")
    assert told in str(error)


async def test_the_systems_own_names_are_inside() -> None:
    """By the real resolver, whatever it reads."""
    error = await refusal(Fetcher(FetchRules(timeout_s=PATIENCE_S)), "http://localhost/")
    assert str(error) == NOT_TOLD
    assert "which is not public" in error.why
    found = await looked_up("localhost", 80)
    assert found
    assert all(one.is_loopback for one in found)
    assert all(not is_public(one) for one in own_addresses() if one.is_loopback)


async def test_a_redirect_that_is_no_url_is_refused() -> None:
    leads = answer(b"", b"location: http://[::1", status=b"302 Found")
    async with far_side(saying(leads)) as side:
        error = await refusal(fetcher(side.port), f"http://a.test:{side.port}/")
    assert "no URL" in error.why


async def test_a_body_without_end_is_left_at_the_limit() -> None:
    sent = 0

    async def endless(caller: Caller) -> None:
        nonlocal sent
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await caller.say_chunk(png())
        while True:
            await caller.say_chunk(bytes(65536))
            sent += 65536

    async with far_side(endless) as side:
        error = await refusal(fetcher(side.port), f"http://a.test:{side.port}/")
    assert "more than the 1048576 bytes" in str(error)
    assert sent < 64 << 20


@pytest.mark.parametrize(
    "dripping", [b"HTTP/1.1 200 OK\r\n", PNG[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a_server_that_drips_is_left_when_the_time_is_over(dripping: bytes) -> None:
    left = asyncio.Event()

    async def drip(caller: Caller) -> None:
        await caller.request()
        for at in range(len(dripping)):
            await caller.say(dripping[at : at + 1])
        await caller.gone()
        left.set()

    async with far_side(drip) as side:
        error = await refusal(fetcher(side.port, timeout_s=0.2), f"http://a.test:{side.port}/")
        with anyio.fail_after(PATIENCE_S):
            await left.wait()
    assert str(error) == NOT_TOLD


async def test_what_leads_nowhere_and_what_leads_inside_are_told_alike() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[Ip]:
        raise OSError("Name or service not known")

    async with far_side(saying(PNG)) as side:
        port = side.port
    rules = FetchRules(ports=(80, port), networks=(LOOPBACK,))
    told = {
        str(await refusal(one, f"http://a.test:{port}/"))
        for one in (
            Fetcher(rules, resolve=unknown, own=tuple),
            fetcher(port, (ipaddress.ip_address("10.0.0.1"),)),
            fetcher(port, (HERE,)),  # nobody listens there any more
        )
    }
    assert told == {NOT_TOLD}


async def test_a_second_address_is_tried_where_the_first_does_not_answer() -> None:
    async with far_side(saying(PNG)) as side:
        dead = ipaddress.ip_address("127.0.0.9")
        got = await fetched(fetcher(side.port, (dead, HERE)), f"http://a.test:{side.port}/")
    assert got == png()


async def test_leaving_hangs_up() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await caller.gone()
        left.set()

    async with far_side(silent) as side:
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fetched, fetcher(side.port), f"http://a.test:{side.port}/")
                await asked.wait()
                tasks.cancel_scope.cancel()
            await left.wait()


async def test_pictures_of_all_requests_together_are_bounded() -> None:
    asked = asyncio.Semaphore(0)

    async def silent(caller: Caller) -> None:
        await caller.request()
        asked.release()
        await caller.gone()

    async with far_side(silent) as side:
        one = fetcher(side.port, timeout_s=1.0)
        url = f"http://a.test:{side.port}/"
        outcomes: list[type[Exception]] = []

        async def ask() -> None:
            try:
                await fetched(one, url)
            except (Busy, NotFetched) as error:
                outcomes.append(type(error))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE_MAX + 4):
                    tasks.start_soon(ask)
                for _ in range(AT_ONCE_MAX):
                    await asked.acquire()
                assert len(side.callers) == AT_ONCE_MAX
    assert len(outcomes) == AT_ONCE_MAX + 4


async def test_pictures_of_one_request_share_their_room() -> None:
    async with far_side(saying(PNG)) as side:
        one, room = fetcher(side.port), Room(len(png()))
        url = one.read(f"http://a.test:{side.port}/")
        assert await one.fetch(url, room) == png()
        with pytest.raises(NotFetched, match="larger than what is accepted"):
            await one.fetch(url, room)


# --- TLS


async def test_a_certificate_has_to_name_the_host(tmp_path: Path) -> None:
    theirs, ours = certificate(tmp_path, "pictures.test")

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        down = b"location: http://pictures.test/"
        writer.write(answer(b"", down, status=b"302 Found") if b"/down" in request else PNG)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=theirs)
    async with server:
        port = server.sockets[0].getsockname()[1]
        one = fetcher(port, tls=ours)
        assert await fetched(one, f"https://pictures.test:{port}/") == png()
        error = await refusal(one, f"https://other.test:{port}/")
        down = await refusal(one, f"https://pictures.test:{port}/down")
        stranger = await refusal(fetcher(port), f"https://pictures.test:{port}/")
    assert "certificate is not trusted" in str(error)
    assert "certificate is not trusted" in str(stranger)
    assert (str(down), down.why) == (NOT_TOLD, "a redirect from https to http")


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server that has one for that name, and of a client that trusts it alone."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(file)
    ours = ssl.create_default_context(cafile=str(file))
    return theirs, ours
