"""Where engines work: a thread for each slot, and a bounded line before them.

The server's own thread computes nothing, so it answers while engines do; theirs write
nothing, so an answer has one writer.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from . import answers
from .answers import Answer
from .engine import Counts, Generates, Generation, Refused
from .wire import Reply

WAITING_MAX = 256
_FAILED = Refused("The engine failed on this request.", code="internal_error", status=500)


class Desk:
    def __init__(self, loop: asyncio.AbstractEventLoop, slots: int) -> None:
        self.cached_tokens: int | None = None
        self._loop = loop
        self._slots = slots
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="engine")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._outstanding = 0

    @property
    def running(self) -> int:
        return min(self._outstanding, self._slots)

    @property
    def waiting(self) -> int:
        return self._outstanding - self.running

    def compute(self, work: Callable[[], Any], reply: Reply, *, aside: bool = False) -> None:
        """One step of the engine, which nobody can stop in its middle; its JSON is the answer.

        What goes `aside` waits for no slot.
        """

        def run() -> None:
            try:
                body = answers.encoded(work())
            except Exception as error:  # noqa: BLE001 - an engine may raise anything; the server stays
                self._post(_refuse, reply, _meaning(error))
            else:
                self._post(reply.whole, 200, body)

        waits = self._submit(run, self._aside if aside else self._threads)
        reply.gone = lambda: _give_up(waits)

    def generate(
        self,
        engine: Generates,
        request: Generation,
        answer: Answer,
        reply: Reply,
        *,
        streamed: bool,
    ) -> None:
        def run() -> None:
            try:
                self._pieces(engine, request, answer, reply)
                last = answer.end()
                body = b"" if streamed else answers.encoded(answer.whole())
            except Exception as error:  # noqa: BLE001 - an engine may raise anything; the server stays
                if not request.cancelled.is_set():
                    self._post(_refuse, reply, _meaning(error))
                return
            self._post(self._finish, reply, last, body, answer.counts)

        waits = self._submit(run, self._threads)

        def gone() -> None:
            request.cancelled.set()
            _give_up(waits)

        reply.gone = gone

    def _pieces(self, engine: Generates, request: Generation, answer: Answer, reply: Reply) -> None:
        """In the engine's thread: until it has no more, or nobody wants more."""
        pieces = engine.generate(request)
        try:
            for piece in pieces:
                if request.cancelled.is_set():
                    return
                if events := answer.feed(piece):
                    self._post(reply.send, events)
                if answer.is_complete and answer.counts is not None:
                    return
        finally:
            if (close := getattr(pieces, "close", None)) is not None:
                close()

    def _finish(self, reply: Reply, last: bytes, body: bytes, counts: Counts | None) -> None:
        if counts is not None and counts.cached is not None:
            self.cached_tokens = (self.cached_tokens or 0) + counts.cached
        if body:
            reply.whole(200, body)
        else:
            reply.send(last)
            reply.end()

    def _submit(self, run: Callable[[], None], threads: ThreadPoolExecutor) -> Future[None]:
        if self.waiting >= WAITING_MAX:
            raise Refused("Too many requests wait here already.", code="overloaded", status=503)
        self._outstanding += 1
        waits = threads.submit(run)
        waits.add_done_callback(lambda _: self._post(self._leave))
        return waits

    def _leave(self) -> None:
        self._outstanding -= 1

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)


def _give_up(waits: Future[None]) -> None:
    """One that has not begun never will."""
    waits.cancel()


def _refuse(reply: Reply, error: Refused) -> None:
    body = answers.encoded(answers.refused(error))
    if not reply.is_begun:
        reply.whole(error.status, body)
    elif reply.is_open:
        reply.send(b"data: " + body + b"\n\n")
        reply.end()


def _meaning(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    where = threading.current_thread().name
    trace = "".join(traceback.format_exception(error)[-3:])
    sys.stderr.write(f"request failed in {where}: {error!r}\n{trace}")
    sys.stderr.flush()
    return _FAILED
