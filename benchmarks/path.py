"""What the gateway's own code costs a request, without a kernel in between.

    python -m benchmarks.path [--stream] [--prompt-kb N]

Transports in memory stand in for both sockets, so the figure is CPU of the code alone; the
least of many batches is near the same on a busy machine. For comparing two versions of it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import uvloop
from anyio.abc import TaskGroup

from benchmarks import hop
from helexa.cortex.accounts.keys import open_keys
from helexa.cortex.gateway.app import gateway
from helexa.cortex.settings import CortexSettings
from helexa.protocol.errors import http_refusal
from helexa.util import collector
from helexa.util.http_server import HttpServer, ServerLimits
from helexa.util.metrics import Metrics
from helexa.util.upstream import Connection, Pool

BATCHES: Final = 25
CHUNKS: Final = 200
_WHOLE = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":128,'
    b'"completion_tokens":150,"total_tokens":278}}' % (b"x" * 590)
)
WHOLE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_WHOLE)
    + _WHOLE
)
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":'
    b'0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":9,'
    b'"total_tokens":18}}\n\ndata: [DONE]\n\n'
)


class Wire(asyncio.Transport):
    """A transport whose far side is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Any = lambda _data: None

    def write(self, data: Any) -> None:
        self.heard(data)

    def writelines(self, list_of_data: Any) -> None:
        self.heard(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Memory:
    """A way to a neuron that answers at the next turn of the loop."""

    label = authority = "neuron:1"
    reusable = True

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers

    async def dial(self, protocol: Connection, tasks: TaskGroup) -> None:  # noqa: ARG002
        loop, wire = asyncio.get_running_loop(), Wire()

        def say(number: int) -> None:
            protocol.data_received(self._answers[number])
            if number + 1 < len(self._answers):
                loop.call_soon(say, number + 1)

        wire.heard = lambda _data: loop.call_soon(say, 0)
        protocol.connection_made(wire)


async def measure(home: Path, *, stream: bool, prompt_kb: int) -> tuple[float, int]:
    """CPU microseconds of the cheapest batch, and how many requests were in it."""
    answers = [HEAD + _piece(_EVENT), *[_piece(_EVENT)] * (CHUNKS - 2), _piece(_LAST) + _piece(b"")]
    per_batch = 20 if stream else 1000
    if prompt_kb:
        per_batch = 100
    with open_keys(home) as keys:
        async with Pool(Memory(answers if stream else [WHOLE])).running() as pool:
            neurons = hop.neurons_on(pool)
            app = gateway(
                CortexSettings(home=home), keys=keys, fleet=hop.alone(neurons), metrics=Metrics()
            )
            server = HttpServer(app, ServerLimits(), http_refusal)
            secret = keys.create("bench").secret.encode()
            collector.calm()
            client = Client(server, request_of(secret, stream=stream, prompt_kb=prompt_kb))
            await client.ask(per_batch)
            costs = []
            for _ in range(BATCHES):
                before = time.process_time()
                await client.ask(per_batch)
                costs.append(time.process_time() - before)
            server.deadlines.close()
    return min(costs) * 1e6, per_batch


class Client:
    """One connection that asks again as soon as it was answered."""

    def __init__(self, server: HttpServer, request: bytes) -> None:
        self._request = request
        self._wire = Wire()
        self._wire.heard = self._heard
        self._connection = server._connection()  # noqa: SLF001 - there is no listener
        self._connection.connection_made(self._wire)
        self._left = 0
        self._done = asyncio.Event()

    async def ask(self, times: int) -> None:
        self._left = times
        self._done.clear()
        self._connection.data_received(self._request)
        await self._done.wait()

    def _heard(self, data: bytes) -> None:
        if not (data.endswith((b"0\r\n\r\n", b"}"))):
            return
        assert data.startswith(b"HTTP/1.1 200") or b"[DONE]" in data or data == b"0\r\n\r\n"
        self._left -= 1
        if self._left:
            asyncio.get_running_loop().call_soon(self._connection.data_received, self._request)
        else:
            self._done.set()


def request_of(secret: bytes, *, stream: bool, prompt_kb: int) -> bytes:
    prompt = b"a" * 400
    if prompt_kb:
        sentence = (
            'The quick brown fox of the café jumps over the dog and says \\"no\\".\\n'.encode()
        )
        prompt = sentence * (prompt_kb * 1024 // len(sentence))
    more = b', "stream": true' if stream else b""
    body = (
        b'{"model": "m", "messages": [{"role": "system", "content": "You are a helpful assistant."}'
        b', {"role": "user", "content": "%s"}], "max_tokens": 128, "temperature": 0.7%s}'
        % (prompt, more)
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (secret, len(body), body)
    )


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.path", description=__doc__)
    parser.add_argument("--stream", action="store_true", help=f"{CHUNKS} chunks each")
    parser.add_argument("--prompt-kb", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        cost, count = uvloop.run(measure(Path(home), stream=args.stream, prompt_kb=args.prompt_kb))
    print(f"{cost / count:.1f} us a request", end="")
    print(f", {cost / count / CHUNKS:.2f} us a chunk" if args.stream else "")


if __name__ == "__main__":
    main()
