"""Children that share our own server, as their adapters see them: how one is started, what it says.

The other side is `runtime/children/server`, which refuses by name what it does not know or its
engine does not do; here that becomes the refusal that a client of any other runtime gets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from helexa.protocol.errors import Busy, HelexaError, PromptTooLong
from helexa.runtime.children import __file__ as _children
from helexa.runtime.contract import (
    Asking,
    ChildRequest,
    EngineLoad,
    Installation,
    ReplicaSpec,
    Tokens,
)
from helexa.runtime.openai import abilities, refusal
from helexa.runtime.openai.answers import read

LOAD_PATH: Final = "/load"
_PROGRAM: Final = str(Path(_children).parent / "__main__.py")
_UNSUPPORTED: Final = frozenset({"unsupported_capability", "unknown_field"})


class _Numbers(msgspec.Struct):
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _Body(msgspec.Struct):
    error: _Numbers


class _Load(msgspec.Struct):
    running: int | None = None
    waiting: int | None = None
    kv_share: float | None = None
    cached_tokens: int | None = None


class _Tokens(msgspec.Struct):
    count: int
    tokens: list[int]
    pieces: list[list[int]]


class _Text(msgspec.Struct):
    content: str


_tokens: Final = msgspec.json.Decoder(_Tokens)
_text: Final = msgspec.json.Decoder(_Text)
_body: Final = msgspec.json.Decoder(_Body)
_load: Final = msgspec.json.Decoder(_Load)


def argv(engine: str, wanted: Mapping[str, Any], where: Installation) -> Sequence[str]:
    """`engine` is a file of `runtime/children`; what it is told has `model`, `socket`, `slots`."""
    return (str(where.python or sys.executable), "-I", _PROGRAM, engine, json.dumps(wanted))


def meaning(status: int, body: bytes, spec: ReplicaSpec, *, runtime: str) -> HelexaError:
    words = refusal.words(body)
    if words is None:
        return refusal.meaning(status, body, spec, runtime=runtime)
    if words.code == "context_length_exceeded":
        error = _body.decode(body).error
        return PromptTooLong(tokens=error.n_prompt_tokens, tokens_max=error.n_ctx)
    if words.code in _UNSUPPORTED and words.param:
        return abilities.missing(f"`{words.param}`", words.param, spec, runtime)
    if words.code == "overloaded":
        return Busy()
    return refusal.meaning(status, body, spec, runtime=runtime)


def tokens_of_text(text: str | Sequence[str], *, special: bool) -> Asking[Tokens]:
    body = json.dumps({"content": text, "special": special}).encode()
    return _read((yield ChildRequest(path="/tokenize", body=body, streamed=False)))


def tokens_of_chat(chat: bytes) -> Asking[Tokens]:
    """`chat` is what the child would be asked for an answer."""
    return _read((yield ChildRequest(path="/tokenize/chat", body=chat, streamed=False)))


def text_of(ids: Sequence[int]) -> Asking[str]:
    body = json.dumps({"tokens": list(ids)}).encode()
    answer = yield ChildRequest(path="/detokenize", body=body, streamed=False)
    return read(answer, _text).content


def _read(answer: bytes) -> Tokens:
    said = read(answer, _tokens)
    return Tokens(count=said.count, ids=said.tokens, pieces=[bytes(one) for one in said.pieces])


def load(body: bytes) -> EngineLoad:
    """Never raises."""
    try:
        said = _load.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return EngineLoad()
    return EngineLoad(
        running=said.running,
        waiting=said.waiting,
        kv_share=said.kv_share,
        cached_tokens=said.cached_tokens,
    )
