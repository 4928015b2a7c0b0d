"""Pictures in requests: judged by their bytes before anything computes, answered each by itself."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import struct
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tests.neuron.bench import PATIENCE_S, Reply
from tests.neuron.test_app import api, ask, settings
from tests.neuron.test_fetching import PNG, png, saying
from tests.util.http_parts import far_side

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.serving.pictures.fetching import Fetcher, FetchRules
from helexa.neuron.serving.pictures.judging import PictureRules, Pictures
from helexa.protocol.errors import HelexaError, PictureRefused
from helexa.protocol.pictures import data_urls
from helexa.protocol.pictures.headers import Look, NotAPicture, looked_at
from helexa.protocol.pictures.places import exchanged, may_hold, places
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime.contract import Capabilities
from helexa.testing import tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
VISION = "helexa-demo-vision"
PICTURE_TOKENS = 64
SEEING = Capabilities(classes=(WorkloadClass.VISION,), modalities=(Modality.TEXT, Modality.IMAGE))


def drawn(colour: str, kind: str = "png", size: tuple[int, int] = (96, 96), **more: Any) -> bytes:
    """A circle of that colour on white."""
    picture = Image.new("RGB", size, "white")
    wide, high = size
    box = (wide // 6, high // 6, wide * 5 // 6, high * 5 // 6)
    ImageDraw.Draw(picture).ellipse(box, fill=colour)
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def part(content: bytes | str) -> dict[str, Any]:
    where = content if isinstance(content, str) else url(content)
    return {"type": "image_url", "image_url": {"url": where}}


def look_at(*pictures: bytes | str, model: str = VISION, **more: Any) -> dict[str, Any]:
    text = {"type": "text", "text": "What colour is the shape?"}
    content = [text, *map(part, pictures)]
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0, **more}


# --- what bytes are


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("png", {}),
        ("jpeg", {}),
        ("jpeg", {"progressive": True, "exif": b"Exif\0\0" + bytes(3000)}),
        ("gif", {}),
        ("webp", {"lossless": False}),
        ("webp", {"lossless": True}),
        ("webp", {"lossless": False, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    ],
)
def test_type_and_size_are_read_from_the_header(kind: str, more: dict[str, Any]) -> None:
    content = drawn("red", kind, (123, 45), **more)
    assert looked_at(content) == Look(kind, 123, 45)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_header_that_is_cut_anywhere_is_no_picture_or_the_same_one(kind: str) -> None:
    content = drawn("red", kind, (20, 10))
    for end in range(len(content)):
        try:
            assert looked_at(content[:end]) == Look(kind, 20, 10)
        except NotAPicture:
            continue


@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"]
    ),
    st.binary(max_size=80),
)
def test_any_bytes_are_a_picture_or_refused(start: bytes, rest: bytes) -> None:
    try:
        look = looked_at(start + rest)
    except NotAPicture:
        return
    assert look.width > 0
    assert look.height > 0


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"BM" + bytes(60), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7"),
        *(b"II*\0" + bytes(60), b"\0\0\0\x20ftypavif" + bytes(60), png(0, 5)),
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 5000,
        b"\xff\xd8\xff\xe0\0\x01" + bytes(60),
        b"\xff\xd8\xff\xe0\0\x02\x00\x00" + bytes(60),
        b"\xff\xd8\xff\xff\xd0\xff\xda" + bytes(60),
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + bytes(60),
        b"GIF89a" + bytes(7) + b";" + bytes(60),
        b"GIF89a" + bytes(7) + b"!\xfe\0" * 5000,
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1x" * 70_000 + b"\0" + bytes(60) + b";",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"\0\0\0\1" * 5 + bytes(13 * 70_000),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(60),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(60),
        b"RIFF\0\0\0\0WEBPICCP" + bytes(60),
    ],
)
def test_other_bytes_are_none(content: bytes) -> None:
    with pytest.raises(NotAPicture):
        looked_at(content)


def test_a_gif_is_as_large_as_its_largest_claim() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"!\xf9\x04\0\0\0\0\0," + struct.pack("<HHHHB", 0, 0, 60_000, 50_000, 0) + b";"
    assert looked_at(screen + frame) == Look("gif", 60_000, 50_000)


# --- data URLs


@pytest.mark.parametrize(
    "text",
    [
        "data:,hello",
        "data:image/png;charset;base64,AAAA",
        "data:image/png;a=b,AAAA",
        "data:image/png,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,AAAA====",
        "data:image/png;base64,AA\nAA",
        "data:image/png;base64, AAAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAA\u0410",
        " data:image/png;base64,AAAA",
        "data:image/png;base64",
    ],
)
def test_data_urls_are_read_strictly(text: str) -> None:
    with pytest.raises(NotAPicture):
        data_urls.content_of(text, bytes_max=100)


@pytest.mark.parametrize(
    "head", ["DATA:image/png;base64,", "data:image/PNG;charset=utf-8;a=b;BASE64,"]
)
def test_a_data_url_may_be_written_in_other_ways_than_engines_read(head: str) -> None:
    assert data_urls.content_of(head + "AAAA", bytes_max=100) == bytes(3)
    assert data_urls.plain(head + "AAAA") == "data:image/png;base64,AAAA"
    plain = "data:image/png;base64,AAAA"
    assert data_urls.plain(plain) is plain


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_data_url_holds_its_bytes_up_to_the_limit(content: bytes, bytes_max: int) -> None:
    text = data_urls.url_of(content, "png")
    if len(content) <= bytes_max:
        assert data_urls.content_of(text, bytes_max=bytes_max) == content
    else:
        with pytest.raises(NotAPicture, match="more than"):
            data_urls.content_of(text, bytes_max=bytes_max)


# --- where they are


def test_pictures_are_found_in_every_message_and_behind_escapes() -> None:
    body = json.dumps(
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "t"}, part("data:a")]},
                {"role": "assistant", "content": None},
                {"role": "tool", "content": [part("data:b")], "tool_call_id": "1"},
            ]
        }
    ).encode()
    found = places(body)
    assert [(one.field, one.url) for one in found] == [
        ("messages[1].content[1].image_url.url", "data:a"),
        ("messages[3].content[0].image_url.url", "data:b"),
    ]
    hidden = body.replace(b'"image_url"', b'"image\\u005furl"')
    assert may_hold(hidden)
    assert places(hidden) == found
    assert not may_hold(b'{"messages": [{"role": "user", "content": "an image"}]}')


def test_an_exchange_leaves_everything_else_as_it_was() -> None:
    body = (
        b'{"seed": 1.50, "messages":[{"content" : "a\\u00e9 b" },{"content":[{"type":"text",'
        b'"text":"x  y"},{"image_url":{"detail":"low","url":"http://a.test/"},'
        b'"type":"image_url"}],"role":"user"}],"z":[ 1 ]}'
    )
    (place,) = places(body)
    new = exchanged(body, {place: "data:n"})
    assert json.loads(new) == json.loads(body.replace(b"http://a.test/", b"data:n"))
    assert b"1.50" in new
    assert b'{"content" : "a\\u00e9 b" }' in new
    assert b'{"type":"text","text":"x  y"}' in new
    assert b"[ 1 ]" in new


# --- what is refused


async def refusal(body: dict[str, Any], rules: PictureRules | None = None) -> PictureRefused:
    with pytest.raises(PictureRefused) as caught:
        await Pictures(rules or PictureRules()).settled(
            json.dumps(body).encode(), "m", SEEING, ("png", "jpeg", "gif")
        )
    return caught.value


async def test_a_refusal_names_the_place_and_the_reason() -> None:
    good = drawn("red")
    field = "messages[0].content[2].image_url.url"
    for bad, said in (
        (png(100_000, 100_000), "100000 x 100000 pixels"),
        (b"<html>", "none of png"),
        (drawn("red", "webp"), "is a webp, and what runs this model reads gif, jpeg, png"),
        (good[:20], "ends within the header"),
    ):
        error = await refusal(look_at(good, bad))
        assert (error.status, error.code, error.param) == (400, "invalid_image", field)
        assert said in error.message
        assert field in error.message


async def test_number_and_bytes_are_bounded() -> None:
    many = await refusal(look_at(*[drawn("red")] * 3), PictureRules(number_max=2))
    assert "3 pictures; at most 2" in many.message
    large = await refusal(look_at(drawn("red")), PictureRules(bytes_max=100))
    assert "more than the 100 bytes" in large.message


async def test_an_engine_gets_a_data_url_as_it_knows_it() -> None:
    plain = json.dumps(look_at(drawn("red"))).encode()
    odd = plain.replace(b"data:image/png;", b"DATA:image/PNG;charset=utf-8;")
    assert odd != plain
    settled = await Pictures(PictureRules()).settled(odd, "m", SEEING)
    assert json.loads(settled) == json.loads(plain)


async def test_a_large_body_is_judged_alike() -> None:
    noise = Image.effect_noise((700, 700), 90).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "png")
    error = await refusal(look_at(file.getvalue(), b"<html>" * 9))
    assert error.param == "messages[0].content[2].image_url.url"
    body = json.dumps(look_at(file.getvalue())).encode()
    assert await Pictures(PictureRules()).settled(body, "m", SEEING) is body


async def test_urls_are_not_fetched_unless_the_operator_says_so() -> None:
    for where in ("http://a.test/x.png", "file:///etc/passwd", "/etc/passwd", "DATA :x", ""):
        error = await refusal(look_at(where))
        assert error.param == "messages[0].content[1].image_url.url"
        assert "send a `data:` URL" in error.message


# --- fetched


def fetching(port: int, **rules: Any) -> Pictures:
    async def resolve(_host: str, _port: int) -> Sequence[Any]:
        return (ipaddress.ip_address("127.0.0.1"),)

    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    fetch = FetchRules(ports=(port,), networks=networks, timeout_s=PATIENCE_S)
    return Pictures(PictureRules(**rules), Fetcher(fetch, resolve=resolve, own=tuple))


async def test_fetched_pictures_take_their_places_and_the_same_url_is_asked_once() -> None:
    inline = url(drawn("red"))
    async with far_side(saying(PNG)) as side:
        away = f"http://a.test:{side.port}/p"
        body = json.dumps(look_at(away, inline, away, away + "?2")).encode()
        with anyio.fail_after(PATIENCE_S):
            settled = await fetching(side.port).settled(body, "m", SEEING)
    found = [place.url for place in places(settled)]
    assert found == [url(png()), inline, url(png()), url(png())]
    assert len(side.callers) == 2


async def test_what_was_fetched_is_judged_like_what_was_sent() -> None:
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (png(100_000, 100_000), {}, "100000 x 100000 pixels"),
        (drawn("red", "webp"), {}, "is a webp"),
        (drawn("red"), {"body_bytes_max": 300}, "larger than what is accepted"),
    ]
    for content, rules, said in cases:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content)
        async with far_side(saying(head + content)) as side:
            body = json.dumps(look_at(f"http://a.test:{side.port}/")).encode()
            with anyio.fail_after(PATIENCE_S), pytest.raises(PictureRefused, match=said) as caught:
                await fetching(side.port, **rules).settled(body, "m", SEEING, ("png",))
        assert caught.value.param == "messages[0].content[1].image_url.url"


async def test_one_bad_url_ends_the_others_and_is_refused_before_any_is_asked() -> None:
    async with far_side(saying(PNG)) as side:
        good = f"http://a.test:{side.port}/"
        body = json.dumps(look_at(good, "http://u:p@a.test/")).encode()
        with pytest.raises(PictureRefused, match="user name"):
            await fetching(side.port).settled(body, "m", SEEING)
    assert not side.callers


# --- through a neuron and the real engine


@asynccontextmanager
async def neuron(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Neuron, Pool]]:
    tiny_gguf.write(tmp_path / "models" / "tiny.gguf")
    usual = settings(tmp_path, tmp_path / "models", slots=2, context_tokens=1024)
    wanted = msgspec.structs.replace(usual, demo_models=True, **more)
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        yield live, pool


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.content
    return str(reply.json["choices"][0]["message"]["content"])


COLOURS = ("red", "green", "blue", "yellow")


async def test_pictures_are_not_mistaken_for_one_another(tmp_path: Path) -> None:
    """The same words before and behind them: what tells the prompts apart is the pictures."""
    async with neuron(tmp_path) as (_, pool):
        in_turn = [said(await ask(pool, "POST", CHAT, look_at(drawn(one)))) for one in COLOURS * 2]
        at_once: dict[int, str] = {}

        async def one(number: int) -> None:
            body = look_at(drawn(COLOURS[number % 4]))
            at_once[number] = said(await ask(pool, "POST", CHAT, body))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(one, number)
    for number, colour in enumerate(COLOURS * 2):
        assert colour in in_turn[number]
        assert colour in at_once[number]


@pytest.mark.parametrize("stream", [False, True])
async def test_each_picture_is_counted_as_the_engine_reads_it(tmp_path: Path, stream: bool) -> None:
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    counts = []
    async with neuron(tmp_path) as (_, pool):
        for number in range(4):
            pictures = [drawn(one) for one in COLOURS[:number]]
            reply = await ask(pool, "POST", CHAT, look_at(*pictures, **more))
            assert reply.status == 200
            whole = reply.events[-2] if stream else reply.json
            counts.append(whole["usage"]["prompt_tokens"])
    assert [one - counts[0] for one in counts] == [PICTURE_TOKENS * one for one in range(4)]


@pytest.mark.parametrize("role", ["user", "assistant", "tool", "system"])
async def test_a_text_model_refuses_a_picture_without_being_loaded(
    tmp_path: Path, role: str
) -> None:
    body = look_at(drawn("red"), model="tiny")
    body["messages"][0]["role"] = role
    away = look_at("http://127.0.0.1:9/", model="tiny")
    async with neuron(tmp_path, image_urls=True) as (live, pool):
        for one in (body, away):
            reply = await ask(pool, "POST", CHAT, one)
            assert (reply.status, reply.error["code"]) == (400, "unsupported_modality")
        replica = await live.roster.replica("tiny")
        assert replica.state.launches == 0
        # A picture that is none is refused by a model that sees, without being loaded either.
        reply = await ask(pool, "POST", CHAT, look_at(b"<html>"))
        assert (reply.status, reply.error["code"]) == (400, "invalid_image")
        assert (await live.roster.replica(VISION)).state.launches == 0


@pytest.mark.parametrize(
    ("kind", "detail"), [("png", "low"), ("jpeg", "high"), ("gif", "auto"), ("jpeg", None)]
)
async def test_types_and_detail_make_no_difference(
    tmp_path: Path, kind: str, detail: str | None
) -> None:
    body = look_at(url(drawn("blue", kind), kind))
    if detail is not None:
        body["messages"][0]["content"][1]["image_url"]["detail"] = detail
    async with neuron(tmp_path) as (_, pool):
        assert "blue" in said(await ask(pool, "POST", CHAT, body))


async def test_a_picture_that_the_engine_cannot_decode_is_refused_as_one(tmp_path: Path) -> None:
    """Its head and its end are right, and what is between them is not."""
    content = drawn("red")
    at = content.index(b"IDAT") + 4
    bad = content[:at] + b"\xff" * 20 + content[at + 20 :]
    async with neuron(tmp_path) as (_, pool):
        one = await ask(pool, "POST", CHAT, look_at(bad))
        among = await ask(pool, "POST", CHAT, look_at(content, bad))
        good = await ask(pool, "POST", CHAT, look_at(content))
    assert (one.status, one.error["code"]) == (400, "invalid_image")
    assert one.error["param"] == "messages[0].content[1].image_url.url"
    assert (among.status, among.error["code"]) == (400, "invalid_image")
    assert among.error["param"] == "messages"
    assert "red" in said(good)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_picture_without_its_end_is_refused(kind: str) -> None:
    content = drawn("red", kind, (64, 48))
    for end in (len(content) - 1, len(content) * 3 // 4):
        with pytest.raises(NotAPicture, match=r"ends"):
            looked_at(content[:end])
    assert looked_at(content + bytes(9)) == Look(kind, 64, 48)


async def test_a_picture_from_an_own_store_is_fetched_by_the_neuron(tmp_path: Path) -> None:
    content = drawn("green")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n"
    async with far_side(saying(head % len(content) + content)) as side:
        allowed: dict[str, Any] = {
            "image_urls": True,
            "image_url_ports": (side.port,),
            "image_url_networks": ("127.0.0.0/8",),
        }
        async with neuron(tmp_path, **allowed) as (_, pool):
            where = f"http://127.0.0.1:{side.port}/green.png"
            assert "green" in said(await ask(pool, "POST", CHAT, look_at(where)))
        # Without a word about that network the same neuron does not connect to it.
        del allowed["image_url_networks"]
        asked = len(side.callers)
        async with neuron(tmp_path / "again", **allowed) as (_, pool):
            reply = await ask(pool, "POST", CHAT, look_at(where))
    assert (reply.status, reply.error["code"]) == (400, "invalid_image")
    assert "127.0.0.1" not in reply.error["message"]
    assert len(side.callers) == asked


def test_every_refusal_of_a_picture_is_a_400() -> None:
    error: HelexaError = PictureRefused(reason="x", field="y")
    assert (error.status, error.kind) == (400, "invalid_request_error")


# --- what decoding them takes


async def test_the_pixels_of_a_request_are_bounded_in_sum() -> None:
    rules = PictureRules(pixels_max=100 * 100, pixels_sum_max=3 * 96 * 96)
    body = json.dumps(look_at(*[drawn("red")] * 3)).encode()
    assert await Pictures(rules).settled(body, "m", SEEING) is body
    error = await refusal(look_at(*[drawn("red")] * 4), rules)
    assert (error.code, error.param) == (
        "invalid_image",
        "messages[0].content[4].image_url.url",
    )
    assert "27648 that are accepted here in one request" in error.message


async def test_the_same_url_twice_counts_twice() -> None:
    async with far_side(saying(PNG)) as side:
        away = f"http://a.test:{side.port}/p"
        body = json.dumps(look_at(away, away)).encode()
        with anyio.fail_after(PATIENCE_S):
            await fetching(side.port, pixels_sum_max=8).settled(body, "m", SEEING)
            with pytest.raises(PictureRefused, match="in one request"):
                await fetching(side.port, pixels_sum_max=7).settled(body, "m", SEEING)


async def test_no_request_takes_more_than_what_is_kept_free_for_it(tmp_path: Path) -> None:
    """The pictures that take most: four channels of 16 bits, up to the bound in sum."""
    large = _blank(2000, 1500)
    bounds: dict[str, Any] = {"image_pixels_max": 3_000_000, "images_pixels_max": 9_000_000}
    async with neuron(tmp_path, **bounds) as (live, pool):
        assert (await ask(pool, "POST", CHAT, look_at(drawn("red")))).status == 200
        replica = await live.roster.replica(VISION)
        assert replica.engine is not None
        before = _most_bytes(replica.engine.process.pid)
        assert (await ask(pool, "POST", CHAT, look_at(*[large] * 3))).status == 200
        taken = _most_bytes(replica.engine.process.pid) - before
        assert taken > 9_000_000 * 3
        assert taken < replica.adapter.footprint(replica.spec).reserve / replica.spec.slots


def _blank(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    rows = zlib.compress(bytes((width * 8 + 1) * height))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _most_bytes(pid: int) -> int:
    """That it ever held at once."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(one for one in status.splitlines() if one.startswith("VmHWM")).split()[1]) << 10
