"""How a model reads texts, asked of vLLM's server, which tells no text of a single token.

Its strings are its tokenizer's own spelling, so a token's text is not known here, and what a
text's tokens are is asked for whole texts alone. Pictures are counted by nobody before they
are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.openai import body as bodies
from helexa.protocol.pictures.places import may_hold, places
from helexa.runtime.contract import Asking, ChildRequest, ReplicaSpec, Tokens
from helexa.runtime.openai.answers import read
from helexa.runtime.vllm.refusal import NAME

_TAKEN: Final = (
    *("model", "messages", "tools", "add_generation_prompt", "continue_final_message"),
    *("chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
)
"""Of a chat completion, what decides about its prompt."""


class _Tokenized(msgspec.Struct):
    count: int
    tokens: list[int]


class _Text(msgspec.Struct):
    prompt: str


_tokenized: Final = msgspec.json.Decoder(_Tokenized)
_text: Final = msgspec.json.Decoder(_Text)


def of_text(text: str | Sequence[str], spec: ReplicaSpec, *, special: bool) -> Asking[Tokens]:
    # Several are read as one: a question for each piece of an answer would take too long.
    whole = text if isinstance(text, str) else "".join(text)
    body = {"model": spec.files.model, "prompt": whole, "add_special_tokens": special}
    said = read((yield _ask("/tokenize", body)), _tokenized)
    return Tokens(count=said.count, ids=said.tokens)


def of_chat(chat: bytes, spec: ReplicaSpec, *, special: bool | None) -> Asking[Tokens]:
    """`chat` is what the server would be asked for an answer."""
    if may_hold(chat) and places(chat):
        raise CapabilityMissing(
            model=spec.files.model,
            capability="counts of pictures before they are read",
            runtime=NAME,
            field="messages",
        )
    raw = bodies.fields(chat)
    body: dict[str, Any] = {name: raw[name] for name in _TAKEN if name in raw}
    if effort := bodies.value(raw, "reasoning_effort", str):
        options = bodies.value(raw, "chat_template_kwargs", dict[str, Any]) or {}
        body["chat_template_kwargs"] = {"reasoning_effort": effort, **options}
    if special is not None:
        body["add_special_tokens"] = special
    said = read((yield _ask("/tokenize", body)), _tokenized)
    return Tokens(count=said.count, ids=said.tokens)


def text_of(ids: Sequence[int], spec: ReplicaSpec) -> Asking[str]:
    body = {"model": spec.files.model, "tokens": list(ids)}
    return read((yield _ask("/detokenize", body)), _text).prompt


def _ask(path: str, body: dict[str, Any]) -> ChildRequest:
    return ChildRequest(path=path, body=msgspec.json.encode(body), streamed=False)
