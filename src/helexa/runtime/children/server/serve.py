"""From an engine to a child that serves: load it, listen, answer until a signal.

Nobody can connect before the model is loaded, so whoever is answered is served. Until
then SIGTERM keeps its default action: an engine that loads lets no Python run. After
that it ends the process at once, too, and takes the socket's file along.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from . import answers, requests
from .desk import Desk
from .engine import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RERANK,
    Embeds,
    Engine,
    Generates,
    Refused,
    Reranks,
    SaysRoom,
    Tokenizes,
    Unloadable,
)
from .wire import Connection, Reply, Request

_BACKLOG = 1024


def run(engine: Engine, wanted: Mapping[str, Any]) -> None:
    """`wanted` has the server's own `model`, `socket` and `slots` among the engine's words.

    Raises Unloadable.
    """
    # Ctrl-C in the operator's terminal is the neuron's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        engine.load()
    except Unloadable:
        raise
    except (Exception, SystemExit) as error:
        raise Unloadable(f"{type(error).__name__}: {error}") from error
    try:
        listening = _listening(wanted["socket"])
    except OSError as error:
        raise Unloadable(f"couldn't bind {wanted['socket']}: {error}") from error
    asyncio.run(_serve(engine, wanted, listening))


async def _serve(engine: Engine, wanted: Mapping[str, Any], listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, _end, wanted["socket"])
    routes = Routes(engine, wanted["model"], Desk(loop, wanted["slots"]))
    server = await loop.create_unix_server(
        lambda: Connection(routes.respond), sock=listening, backlog=_BACKLOG
    )
    await server.serve_forever()


def _listening(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - kept to what starts fast
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(path)
    finally:
        os.umask(mask)
    return listening


def _end(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - kept to what starts fast
    # As if it had never been caught: whoever waits for us sees what ended us.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


class Routes:
    """Which answer belongs to which path."""

    def __init__(self, engine: Engine, model: str, desk: Desk) -> None:
        self._engine = engine
        self._model = model
        self._desk = desk
        self._paths: Mapping[tuple[str, str], Callable[[bytes, Reply], None]] = {
            ("GET", "/health"): lambda _, reply: self._say(reply, {"status": "ok"}),
            ("GET", "/load"): lambda _, reply: self._say(reply, self._load()),
            ("GET", "/v1/models"): lambda _, reply: self._say(reply, self._models()),
            ("POST", "/v1/chat/completions"): partial(self._generation, CHAT),
            ("POST", "/v1/completions"): partial(self._generation, COMPLETIONS),
            ("POST", "/v1/embeddings"): self._embedding,
            ("POST", "/v1/rerank"): self._reranking,
            ("POST", "/tokenize"): self._tokenizing,
            ("POST", "/tokenize/chat"): self._tokenizing_chat,
            ("POST", "/detokenize"): self._detokenizing,
        }

    def respond(self, request: Request, reply: Reply) -> None:
        try:
            self._route(request)(request.body, reply)
        except Refused as error:
            reply.whole(error.status, answers.encoded(answers.refused(error)))

    def _route(self, request: Request) -> Callable[[bytes, Reply], None]:
        found = self._paths.get((request.method, request.path))
        if found is not None:
            return found
        if any(path == request.path for _, path in self._paths):
            raise Refused("That method is not for this path.", code="bad_method", status=405)
        raise Refused("There is nothing at this path.", code="not_found", status=404)

    def _say(self, reply: Reply, content: Any) -> None:
        reply.whole(200, answers.encoded(content))

    def _load(self) -> Any:
        share = self._engine.kv_share() if isinstance(self._engine, SaysRoom) else None
        return {
            "running": self._desk.running,
            "waiting": self._desk.waiting,
            "kv_share": share,
            "cached_tokens": self._desk.cached_tokens,
        }

    def _models(self) -> Any:
        one = {"id": self._model, "object": "model", "created": 0, "owned_by": "helexa"}
        return {"object": "list", "data": [one]}

    def _generation(self, kind: str, body: bytes, reply: Reply) -> None:
        engine, honoured = self._engine, self._honoured(kind)
        if not isinstance(engine, Generates):
            raise _not_served(kind)
        prefix = "chatcmpl" if kind == CHAT else "cmpl"
        name = f"{prefix}-{uuid.uuid4().hex}"
        asked = requests.generation(kind, requests.parsed(body), honoured, name)
        answer = answers.Answer(asked, self._model, int(time.time()))
        self._desk.generate(engine, asked.request, answer, reply, streamed=asked.is_streamed)

    def _embedding(self, body: bytes, reply: Reply) -> None:
        engine, honoured = self._engine, self._honoured(EMBEDDINGS)
        if not isinstance(engine, Embeds):
            raise _not_served(EMBEDDINGS)
        request, encoding = requests.embedding(requests.parsed(body), honoured)
        self._desk.compute(
            lambda: answers.vectors(engine.embed(request), encoding, self._model), reply
        )

    def _reranking(self, body: bytes, reply: Reply) -> None:
        engine, honoured = self._engine, self._honoured(RERANK)
        if not isinstance(engine, Reranks):
            raise _not_served(RERANK)
        ranking = requests.reranking(requests.parsed(body), honoured)
        self._desk.compute(
            lambda: answers.scores(engine.rerank(ranking.request), ranking, self._model), reply
        )

    def _tokenizing(self, body: bytes, reply: Reply) -> None:
        engine, said = self._tokenizer(), requests.parsed(body)
        texts, special = requests.texts(said)
        self._desk.compute(
            lambda: answers.tokens([engine.tokens_of_text(one, special=special) for one in texts]),
            reply,
            aside=True,
        )

    def _tokenizing_chat(self, body: bytes, reply: Reply) -> None:
        engine, honoured = self._tokenizer(), self._honoured(CHAT)
        asked = requests.generation(CHAT, requests.parsed(body), honoured, "")
        self._desk.compute(
            lambda: answers.tokens([engine.tokens_of_chat(asked.request)]), reply, aside=True
        )

    def _detokenizing(self, body: bytes, reply: Reply) -> None:
        engine, ids = self._tokenizer(), requests.ids(requests.parsed(body))
        self._desk.compute(lambda: {"content": engine.text_of(ids)}, reply, aside=True)

    def _tokenizer(self) -> Tokenizes:
        if not isinstance(self._engine, Tokenizes):
            raise _not_served("tokens")
        return self._engine

    def _honoured(self, kind: str) -> Any:
        honoured = self._engine.honours.get(kind)
        if honoured is None:
            raise _not_served(kind)
        return honoured


def _not_served(kind: str) -> Refused:
    return Refused(f"This model does not serve {kind}.", code="unsupported_capability", status=404)
