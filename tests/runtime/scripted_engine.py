"""An engine that does what the prompt says, for tests of the server that children share.

A prompt is JSON: a list of steps, each a piece's parts and what to do before it. What
happens is sent as datagrams to `journal`.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
import time
from pathlib import Path

from .server.engine import (
    Counts,
    Embedding,
    Piece,
    Refused,
    Scores,
    Tokens,
    TooLong,
    Unloadable,
    Vectors,
)

EVERYTHING = {
    "chat": {"temperature", "n", "logprobs", "top_logprobs", "tools", "response_format"},
    "completions": {"temperature", "prompt_ids", "logprobs"},
    "embeddings": {"dimensions"},
    "rerank": (),
}


class Scripted:
    def __init__(self, wanted):
        self.honours = {
            kind: names for kind, names in EVERYTHING.items() if kind in wanted["kinds"]
        }
        self._wanted = wanted
        self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def load(self):
        if self._wanted.get("unloadable"):
            raise Unloadable(self._wanted["unloadable"])
        if self._wanted.get("broken"):
            raise RuntimeError(self._wanted["broken"])
        self._note("loading", helexa=importlib.util.find_spec("helexa") is not None)
        if self._wanted.get("loads_for_ever"):
            threading.Event().wait()

    def kv_share(self):
        return 0.25

    def generate(self, request):
        asked = request.messages[-1]["content"] if request.is_chat else request.prompt
        self._note("generate", fields=dict(request.fields), limit=request.max_tokens)
        if not isinstance(asked, str):
            yield Piece("ids:" + ",".join(map(str, asked)), finish="stop", counts=Counts(3, 1))
            return
        done = 0
        try:
            for step in json.loads(asked):
                done += 1
                yield from self._step(step, request, done)
        finally:
            self._note("closed", steps=done)

    def tokens_of_text(self, text, *, special):
        pieces = [text[at : at + 2].encode() for at in range(0, len(text), 2)]
        return Tokens(len(pieces) + special, [] if special else range(len(pieces)), pieces)

    def tokens_of_chat(self, request):
        return self.tokens_of_text(request.messages[-1]["content"], special=False)

    def text_of(self, ids):
        if 99 in ids:
            raise Refused("99 is none", param="tokens")
        return "".join(map(chr, ids))

    def _step(self, step, request, done):
        match step.pop("do", ""):
            case "refuse":
                raise Refused("no such thing", param="temperature")
            case "too_long":
                raise TooLong(100, 64)
            case "fail":
                raise ValueError("the device was lost")
            case "hold":
                self._note("holding")
                request.cancelled.wait()
            case "wait":
                while not Path(step["file"]).exists():
                    time.sleep(0.002)
                step.pop("file")
            case "spin":
                self._note("spinning")
                while True:
                    yield Piece("x", counts=Counts(5, done))
            case "busy":
                self._note("busy")
                until = time.monotonic() + step.pop("s")
                while time.monotonic() < until:
                    pass
        if "bytes" in step:
            step["text"] = bytes(step.pop("bytes"))
        counts = step.pop("counts", [5, done, 2])
        yield Piece(**step, counts=Counts(*counts) if counts else None)

    def embed(self, request: Embedding):
        size = request.dimensions or 3
        return Vectors([[len(one), 0.5, -1.0][:size] for one in request.inputs], tokens=7)

    def rerank(self, request):
        scores = [float(len(one)) for one in request.documents]
        return Scores(scores, tokens=9)

    def _note(self, event, **facts):
        if path := self._wanted.get("journal"):
            self._journal.sendto(json.dumps({"event": event, **facts}).encode(), path)


def engine(wanted):
    return Scripted(wanted)
