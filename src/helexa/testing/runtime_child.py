"""A runtime child that misbehaves on request, in the dialect of llama.cpp's server.

    python -m helexa.testing.runtime_child --socket PATH [flags]

Supervision and serving are proven against it: each way in which a real runtime
was seen or feared to fail is a flag. What it notices is sent as datagrams to
`--journal`, so that a test awaits an event where it would otherwise sleep.
Standard library only; it starts in a tenth of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, Final

from helexa.testing import echoing

_LOOK_EVERY_S: Final = 0.01
_TOLD: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HOME", "TMPDIR")
"""Of its environment, what it tells the journal."""


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="runtime_child")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--journal", help="a datagram socket that hears what happens")
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--loading-dies", type=int, metavar="STATUS", help="exit while loading")
    parser.add_argument("--first-dies", metavar="FILE", help="exit once: while FILE is missing")
    parser.add_argument("--load-waits-for", metavar="FILE", help="be ready once FILE exists")
    parser.add_argument("--say", action="append", default=[], help="a line for stderr at start")
    parser.add_argument("--logs-bytes", type=int, default=0, help="write so much to stderr first")
    parser.add_argument("--hangs-with", metavar="FILE", help="answer nothing while FILE exists")
    parser.add_argument("--grows-bytes", type=int, default=0, help="take so much with each event")
    parser.add_argument("--ignores-sigterm", action="store_true")
    parser.add_argument("--forks-worker", action="store_true", help="a child that outlives it")
    parser.add_argument("--tokens", type=int, default=3, help="events in each answer")
    parser.add_argument("--echoes", type=int, metavar="N", help="say again what was asked; read N")
    parser.add_argument("--dies-after", type=int, metavar="N", help="SIGKILL itself after N events")
    parser.add_argument("--holds-after", type=int, metavar="N", help="then wait for the client")
    parser.add_argument("--records", metavar="FILE", help="keep the last body there, as it came")
    parser.add_argument("--recites", metavar="FILE", help="answer with these very bytes")
    parser.add_argument("--until", metavar="FILE", help="with --holds-after: or for FILE")
    parser.add_argument(
        "--answers",
        choices=(
            "well",
            "html",
            "half-json",
            "no-sse",
            "error-event",
            "cut",
            "empty",
            "status-500",
            "usage-twice",
            "usage-wrong",
            "usage-missing",
        ),
        default="well",
    )
    return parser.parse_args(argv)


_NO_END: Final = ("half-json", "no-sse", "error-event", "cut")
"""Answers that break off before anything is said to be finished."""


class Journal:
    def __init__(self, path: str | None) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def note(self, event: str, **facts: Any) -> None:
        if self._path is not None:
            self._socket.sendto(json.dumps({"event": event, **facts}).encode(), self._path)


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, wanted: argparse.Namespace, journal: Journal) -> None:
        super().__init__(wanted.socket, Handler)
        self.wanted = wanted
        self.journal = journal
        self.is_ready = threading.Event()

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("child", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing, for the same reason: a client that hangs up is not worth a trace here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Keep stderr for what a test asked to be said."""

    def do_GET(self) -> None:
        self._hang()
        if self.path == "/health" and self.server.is_ready.is_set():
            self._whole(200, {"status": "ok"})
        else:
            self._whole(503, {"error": {"code": 503, "message": "Loading model"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        wanted = self.server.wanted
        if wanted.records is not None:
            Path(wanted.records).write_bytes(body)
        request = json.loads(body)
        self.server.journal.note("request", path=self.path, body=body.decode())
        self._hang()
        if wanted.recites is not None:
            self._recite(Path(wanted.recites).read_bytes())
        elif wanted.echoes is not None:
            self._echo(request)
        elif self.path in ("/v1/embeddings", "/v1/rerank") and self._is_well:
            self._at_once(request)
        elif self.server.wanted.answers == "html":
            self._raw(200, "text/html", b"<html>It works!</html>")
        elif self.server.wanted.answers == "status-500":
            self._whole(500, {"error": {"code": 500, "message": "no luck", "type": "server_error"}})
        else:
            self._stream(request)

    @property
    def _is_well(self) -> bool:
        return self.server.wanted.answers in ("well", "usage-wrong", "half-json")

    def _hang(self) -> None:
        held = self.server.wanted.hangs_with
        while held is not None and Path(held).exists():
            time.sleep(_LOOK_EVERY_S)

    def _at_once(self, request: dict[str, Any]) -> None:
        answers = self.server.wanted.answers
        if answers == "half-json":
            self._raw(200, "application/json", b'{"data": [')
            return
        count = 1 << 40 if answers == "usage-wrong" else 3
        usage = {"prompt_tokens": count, "total_tokens": count}
        if self.path == "/v1/rerank":
            documents = range(len(request["documents"]))
            results = [{"index": at, "relevance_score": 0.5} for at in documents]
            self._whole(200, {"model": "fake", "results": results, "usage": usage})
            return
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        data = [
            {"object": "embedding", "index": at, "embedding": [0.5, -0.5]}
            for at in range(len(texts))
        ]
        self._whole(200, {"object": "list", "model": "fake", "data": data, "usage": usage})

    def _recite(self, answer: bytes) -> None:
        """A stream where it looks like one, in pieces that end where they happen to."""
        if not answer.startswith(b"data:"):
            self._raw(200, "application/json", answer)
            return
        self._begin_stream()
        for at in range(0, len(answer), 37):
            self._chunk(answer[at : at + 37])
        self._chunk(b"")

    def _echo(self, request: dict[str, Any]) -> None:
        """As an engine that keeps its word; see `echoing`."""
        context = self.server.wanted.echoes
        try:
            if self.path == "/v1/embeddings":
                self._embed(*echoing.embedded(request, context))
            else:
                self._say(request, echoing.answered(request, context))
        except echoing.TooLong as error:
            words = f"request ({error.tokens} tokens) exceeds the context ({context} tokens)"
            kind = {"type": "exceed_context_size_error", "n_ctx": context}
            about = {"code": 400, "message": words, "n_prompt_tokens": error.tokens, **kind}
            self._whole(400, {"error": about})

    def _embed(self, vectors: list[Any], count: int) -> None:
        data = [
            {"object": "embedding", "index": at, "embedding": vector}
            for at, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        self._whole(200, {"object": "list", "model": "fake", "data": data, "usage": usage})

    def _say(self, request: dict[str, Any], echo: echoing.Echo) -> None:
        self._begin_stream()
        try:
            for piece in echo.pieces:
                self._event(self._delta(request, piece))
            last = self._delta(request, None)
            last["choices"][0]["finish_reason"] = echo.finish_reason
            self._event(last)
            usage = {"prompt_tokens": echo.prompt_tokens, "completion_tokens": len(echo.pieces)}
            usage["total_tokens"] = sum(usage.values())
            self._event({**last, "choices": [], "usage": usage})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _stream(self, request: dict[str, Any]) -> None:
        wanted = self.server.wanted
        self._begin_stream()
        try:
            for index in range(wanted.tokens):
                piece = self._delta(request, f"t{index} ")
                if index + 1 == wanted.tokens and wanted.answers not in _NO_END:
                    piece["choices"][0]["finish_reason"] = "stop"
                self._event(piece)
                # Written to, since memory that is only asked for is not taken.
                self.taken = b"x" * wanted.grows_bytes
                if wanted.holds_after == index + 1:
                    self._hold()
                if wanted.dies_after == index + 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            self._finish(request)
        except OSError:
            self.server.journal.note("disconnected")
            self.close_connection = True

    def _finish(self, request: dict[str, Any]) -> None:
        match self.server.wanted.answers:
            case "half-json":
                self._chunk(b'data: {"choices":[{"ind\n\n')
            case "no-sse":
                self._chunk(b"Segmentation fault\n\n")
            case "error-event":
                error = {"code": 500, "message": "the device was lost", "type": "server_error"}
                self._event({"error": error})
            case "cut":
                pass
            case _:
                self._counts(request)
                self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _counts(self, request: dict[str, Any]) -> None:
        answers = self.server.wanted.answers
        usage = {"prompt_tokens": 7, "completion_tokens": self.server.wanted.tokens}
        if answers == "usage-wrong":
            usage = {"prompt_tokens": 1 << 40, "completion_tokens": 1 << 41}
        usage["total_tokens"] = sum(usage.values())
        times = {"usage-twice": 2, "usage-missing": 0}.get(answers, 1)
        for _ in range(times):
            self._event({**self._delta(request, None), "choices": [], "usage": usage})

    def _delta(self, request: dict[str, Any], text: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        is_chat = self.path.endswith("/chat/completions")
        if is_chat:
            choice["delta"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return {
            "id": "cmpl-1",
            "created": 1,
            "model": request.get("model"),
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "choices": [choice],
        }

    def _hold(self) -> None:
        """Until the client leaves: its side of the connection becomes readable and empty."""
        self.server.journal.note("holding")
        until = self.server.wanted.until
        while until is None or not Path(until).exists():
            readable, _, _ = select.select([self.connection], [], [], _LOOK_EVERY_S)
            if readable and not self.connection.recv(1):
                raise ConnectionResetError

    def _event(self, content: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        self._raw(status, "application/json", json.dumps(content).encode())

    def _raw(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    wanted = arguments(sys.argv[1:])
    journal = Journal(wanted.journal)
    worker = _fork_worker() if wanted.forks_worker else 0
    if wanted.ignores_sigterm:
        signal.signal(signal.SIGTERM, lambda *_: journal.note("sigterm"))
    for line in wanted.say:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - what a runtime would say
    _log(wanted.logs_bytes)
    server = Server(wanted, journal)
    journal.note(
        "started",
        pid=os.getpid(),
        worker=worker,
        environment={name: os.environ[name] for name in _TOLD if name in os.environ},
        cpus=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    )
    if wanted.first_dies is not None and not Path(wanted.first_dies).exists():
        Path(wanted.first_dies).touch()
        os._exit(1)
    if wanted.loading_dies is not None:
        os._exit(wanted.loading_dies)
    threading.Thread(target=_become_ready, args=(server,), daemon=True).start()
    server.serve_forever()


def _become_ready(server: Server) -> None:
    awaited = server.wanted.load_waits_for
    while awaited is not None and not Path(awaited).exists():
        time.sleep(_LOOK_EVERY_S)
    if not server.wanted.never_ready:
        server.is_ready.set()


def _fork_worker() -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    return pid


def _log(count: int) -> None:
    line = b"x" * 4095 + b"\n"
    for _ in range(count // len(line)):
        os.write(2, line)


if __name__ == "__main__":
    main()
