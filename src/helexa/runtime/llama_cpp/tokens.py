"""How a model reads texts, asked of llama.cpp's server.

A chat is rendered by its template and read as the server itself reads it: special tokens in
the rendered text count as such, and the begin of a text is added where the model has one and
the template did not write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.pictures.places import may_hold, places
from helexa.runtime.contract import Asking, ChildRequest, Tokens
from helexa.runtime.openai.answers import read


class _Token(msgspec.Struct):
    id: int
    piece: str | list[int] = ""


class _Read(msgspec.Struct):
    tokens: list[_Token]


class _Counted(msgspec.Struct):
    input_tokens: int


class _Rendered(msgspec.Struct):
    prompt: str


class _Text(msgspec.Struct):
    content: str


_tokens: Final = msgspec.json.Decoder(_Read)
_counted: Final = msgspec.json.Decoder(_Counted)
_rendered: Final = msgspec.json.Decoder(_Rendered)
_text: Final = msgspec.json.Decoder(_Text)


def of_text(text: str | Sequence[str], *, special: bool) -> Asking[Tokens]:
    return _read((yield _reading(text, special=special, parse_special=special)))


def of_chat(chat: bytes, *, special: bool) -> Asking[Tokens]:
    """`chat` is what the server would be asked for an answer."""
    if may_hold(chat) and places(chat):
        counted = read((yield _raw("/v1/chat/completions/input_tokens", chat)), _counted)
        return Tokens(count=counted.input_tokens)
    prompt = read((yield _raw("/apply-template", chat)), _rendered).prompt
    return _read((yield _reading(prompt, special=special, parse_special=True)))


def text_of(ids: Sequence[int]) -> Asking[str]:
    body = msgspec.json.encode({"tokens": list(ids)})
    return read((yield _raw("/detokenize", body)), _text).content


def _reading(text: str | Sequence[str], *, special: bool, parse_special: bool) -> ChildRequest:
    body: dict[str, Any] = {
        "content": text,
        "with_pieces": True,
        "add_special": special,
        "parse_special": parse_special,
    }
    return _raw("/tokenize", msgspec.json.encode(body))


def _read(answer: bytes) -> Tokens:
    tokens = read(answer, _tokens).tokens
    return Tokens(
        count=len(tokens),
        ids=[one.id for one in tokens],
        pieces=[_bytes(one.piece) for one in tokens],
    )


def _raw(path: str, body: bytes) -> ChildRequest:
    return ChildRequest(path=path, body=body, streamed=False)


def _bytes(piece: str | list[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)
