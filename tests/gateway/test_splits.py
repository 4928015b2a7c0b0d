"""A stream in pieces that end anywhere: inside a letter, an event, a chunk's own size."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from tests.gateway.parts import DONE, SSE_HEAD, STREAM, USAGE, gateway_to, token
from tests.util.http_parts import Caller, Script

pytestmark = pytest.mark.anyio

EVENTS = [
    token("naïve café — 你好 🙂"),
    b": a comment\n\n",
    token("line\\nbreak \\ud83d\\ude42").replace(b"\n\n", b"\r\n\r\n"),
    b"event: extra\nid: 7\n" + token("é" * 50),
    token("last"),
]
SHOWN = b"".join(EVENTS) + DONE


def in_pieces(borders: list[int], *, raw: bool) -> Script:
    """What the neuron sends, cut there: between its HTTP chunks, or wherever in their framing."""

    async def script(caller: Caller) -> None:
        await caller.request()
        whole = b"".join([*EVENTS, USAGE, DONE])
        if raw:
            whole = SSE_HEAD + b"".join(
                b"%x\r\n%s\r\n" % (len(part), part) for part in (whole[:100], whole[100:])
            )
            whole += b"0\r\n\r\n"
        else:
            await caller.say(SSE_HEAD)
        cuts = sorted({0, len(whole), *(at % len(whole) for at in borders)})
        for start, end in pairwise(cuts):
            await (caller.say if raw else caller.say_chunk)(whole[start:end])
            await asyncio.sleep(0)
        if not raw:
            await caller.say(b"0\r\n\r\n")
        await caller.gone()

    return script


def _cuts() -> list[list[int]]:
    drawn = random.Random(7)
    few = [[drawn.randrange(4000) for _ in range(drawn.randrange(1, 12))] for _ in range(12)]
    return [[], list(range(4000)), list(range(0, 4000, 7)), *few]


@pytest.mark.parametrize("raw", [False, True])
async def test_the_client_gets_the_same_bytes_however_the_neuron_sent_them(raw: bool) -> None:
    for borders in _cuts():
        async with gateway_to(in_pieces(borders, raw=raw)) as gateway:
            answer = await gateway.post(STREAM)
            assert answer.body == SHOWN, borders
            assert gateway.fleet.outcomes == ["ok"]
            assert gateway.value("helexa_gateway_tokens_total", kind="completion") == 5
