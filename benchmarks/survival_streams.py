"""Streams of clients while nodes die, and what each client got."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from benchmarks.survival_nodes import Cortex
from helexa.util.upstream import Pool, Response

TOKENS: Final = 400
QUESTIONS: Final = (
    "What is helexa?",
    "What is a neuron?",
    "What is a cortex?",
    "How do I make a key?",
    "Who are you?",
    "Hello!",
    "What is a mesh?",
    "Tell me about tokens.",
)
COMPLETED: Final = 'helexa_gateway_continuations_total{outcome="completed"}'
COUNTED: Final = 'helexa_gateway_tokens_total{kind="completion"}'


@dataclass
class Stream:
    """One client's."""

    question: str
    served_by: str = ""
    chunks: int = 0
    arrivals: list[float] = field(default_factory=list)
    text: str = ""
    tokens: int = 0
    ended: bool = False
    error: str = ""
    was_hit: bool = False
    """Whether it was under way at the node that died, when that died."""

    def gap_s(self, since_s: float) -> float:
        """The longest silence that ended after this moment."""
        ends = ((here, there) for here, there in pairwise(self.arrivals) if there > since_s)
        return max((there - here for here, there in ends), default=0.0)


@dataclass(frozen=True)
class Asking:
    """How the clients ask: the model, and the sampling."""

    model: str
    temperature: float
    seed: int | None = None

    def body(self, question: str) -> bytes:
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.temperature,
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.seed is not None:
            asked["seed"] = self.seed
        return json.dumps(asked).encode()


class Clients:
    def __init__(self, pool: Pool, key: str) -> None:
        self._pool = pool
        self._key = key.encode()

    async def hear(
        self,
        asking: Asking,
        stream: Stream,
        session: str = "",
        after_chunk: Callable[[Stream], None] = lambda _stream: None,
    ) -> Stream:
        """Fill `stream` to its end, however it ends."""
        headers = [
            (b"authorization", b"Bearer " + self._key),
            (b"content-type", b"application/json"),
            (b"x-helexa-session", session.encode()),
        ]
        now = asyncio.get_running_loop().time
        body = asking.body(stream.question)
        with await self._pool.request("POST", "/v1/chat/completions", headers, body) as response:
            stream.served_by = _served_by(response)
            raw = bytearray()
            while chunk := await response.chunk():
                raw += chunk
                stream.arrivals.append(now())
                stream.chunks += chunk.count(b"\n\n")
                after_chunk(stream)
        _read(stream, bytes(raw), response.status)
        return stream


def _served_by(response: Response) -> str:
    said = (response.header(b"x-helexa-served-by") or b"").decode()
    name, *more = (part.strip() for part in said.split(";"))
    via = [part.removeprefix("via=") for part in more if part.startswith("via=")]
    return via[-1] if via else name


def _read(stream: Stream, raw: bytes, status: int) -> None:
    finishes = 0
    if status != 200:
        stream.error = f"{status} {raw[:300]!r}"
        return
    for event in raw.split(b"\n\n"):
        if not event.startswith(b"data: {"):
            continue
        chunk = json.loads(event[6:])
        if "error" in chunk:
            stream.error = str(chunk["error"])
            continue
        for choice in chunk["choices"]:
            stream.text += choice["delta"].get("content") or ""
            finishes += bool(choice["finish_reason"])
        if chunk.get("usage"):
            stream.tokens += chunk["usage"]["completion_tokens"]
    stream.ended = finishes == 1 and raw.endswith(b"data: [DONE]\n\n") and not stream.error


@dataclass
class Score:
    """What a case came to."""

    rounds: int = 0
    streams: int = 0
    broken: int = 0
    """Streams that another node went on with."""
    ended: int = 0
    same: int = 0
    """To the byte as undisturbed."""
    broken_ended: int = 0
    broken_same: int = 0
    twice: int = 0
    """Tokens that the gateway counted and no client was told of."""
    gaps_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def undisturbed(clients: Clients, asking: Asking) -> dict[str, str]:
    """What each question is answered alone."""
    found = {}
    for question in QUESTIONS:
        stream = await clients.hear(asking, Stream(question))
        if not stream.ended:
            raise RuntimeError(f"an undisturbed stream failed: {stream.error}")
        found[question] = stream.text
    return found


async def one_round(
    clients: Clients,
    cortex: Cortex,
    asking: Asking,
    at_once: int,
    strike: Callable[[str], None],
    told: dict[str, str],
    score: Score,
    draw: random.Random,
) -> None:
    """So many streams at once, of which those at one node are struck at a random token."""
    streams = [Stream(QUESTIONS[(score.rounds + one) % len(QUESTIONS)]) for one in range(at_once)]
    at_token = draw.randrange(1, TOKENS * 4 // 5)
    now = asyncio.get_running_loop().time
    struck_s: list[float] = []

    def look(stream: Stream) -> None:
        if stream.chunks < at_token or struck_s:
            return
        # Most of them are at one node: they have the same session.
        by_node = Counter(one.served_by for one in streams if one.served_by)
        name = by_node.most_common(1)[0][0]
        for one in streams:
            one.was_hit = one.served_by == name and one.chunks < TOKENS
        struck_s.append(now())
        strike(name)

    before = await asyncio.to_thread(cortex.metric, COMPLETED)
    counted = await asyncio.to_thread(cortex.metric, COUNTED)
    session = f"s{draw.randrange(1 << 30)}"
    await asyncio.gather(*(clients.hear(asking, one, session, look) for one in streams))
    when_s = struck_s[0] if struck_s else now()
    broken = int(await asyncio.to_thread(cortex.metric, COMPLETED) - before)
    score.rounds += 1
    score.streams += at_once
    score.broken += broken
    score.ended += sum(one.ended for one in streams)
    score.same += sum(one.ended and one.text == told[one.question] for one in streams)
    hit = sorted((one for one in streams if one.was_hit), key=lambda one: -one.gap_s(when_s))
    for one in hit[:broken]:
        score.broken_ended += one.ended
        score.broken_same += one.ended and one.text == told[one.question]
        score.gaps_s.append(one.gap_s(when_s))
    score.errors += [one.error for one in streams if not one.ended]
    score.twice += int(await asyncio.to_thread(cortex.metric, COUNTED) - counted) - sum(
        one.tokens for one in streams
    )
