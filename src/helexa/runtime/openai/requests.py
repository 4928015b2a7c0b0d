"""A client's body, judged as far as every engine needs it judged, and made a child's request.

Refused here is what engines misunderstand, crash on, leave out in silence or act upon
outside the machine; everything else is the engine's own business to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai.requests import Texts
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    ChildRequest,
    Endpoint,
    ReplicaSpec,
    Rewrite,
)
from helexa.runtime.openai import abilities, efforts, limits, messages, prompts, tools


class _Completion(msgspec.Struct):
    prompt: Texts


class _Embedding(msgspec.Struct):
    input: Texts


class _Rerank(msgspec.Struct):
    query: str
    documents: list[str]
    top_n: int | None = None


_completion: Final = msgspec.json.Decoder(_Completion)
_embedding: Final = msgspec.json.Decoder(_Embedding)
_rerank: Final = msgspec.json.Decoder(_Rerank)


def chat(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound chat request. Raises a 400."""
    raw = bodies.fields(body)
    messages.check(body, spec, offered, runtime=runtime)
    # Where texts have a number. Engines read one as true or as false.
    bodies.value(raw, "logprobs", bool)
    _check_stream(raw)
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def text(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound completion request. Raises a 400."""
    raw = bodies.fields(body)
    prompt = bodies.typed(_completion, body).prompt
    prompts.check(prompt, "prompt", spec.files.vocabulary)
    is_words = isinstance(prompt, str) or all(isinstance(each, str) for each in prompt)
    if not is_words and Ability.CONTINUE_IDS not in offered.abilities:
        raise abilities.missing("going on with token ids", "prompt", spec, runtime)
    bodies.value(raw, "logprobs", int)
    _check_stream(raw)
    abilities.check(raw, spec, offered, runtime=runtime)
    efforts.not_of_texts(raw, spec, runtime=runtime)
    return raw


def _check_stream(raw: bodies.Fields) -> None:
    if "stream_options" not in raw or bodies.value(raw, "stream", bool):
        return
    if bodies.value(raw, "stream_options", msgspec.Raw) is not None:
        raise BodyMalformed(
            reason="`stream_options` needs `stream` to be true.", field="stream_options"
        )


def embedding(
    body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str
) -> bodies.Fields:
    """The members of a sound embedding request. Raises a 400."""
    raw = bodies.fields(body)
    prompts.check(bodies.typed(_embedding, body).input, "input", spec.files.vocabulary)
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def rerank(body: bytes, spec: ReplicaSpec, offered: Capabilities, *, runtime: str) -> bodies.Fields:
    """The members of a sound rerank request. Raises a 400."""
    raw = bodies.fields(body)
    asked = bodies.typed(_rerank, body)
    if not asked.documents:
        raise BodyMalformed(reason="`documents` is empty.", field="documents")
    if asked.top_n is not None and asked.top_n < 1:
        raise BodyMalformed(reason="`top_n` is 1 or more.", field="top_n")
    abilities.check(raw, spec, offered, runtime=runtime)
    return raw


def generation(raw: bodies.Fields, spec: ReplicaSpec) -> dict[str, Any]:
    """What is changed in every request for text; taken out of `raw` is what engines read apart."""
    limit = limits.taken_out(raw)
    abilities.without_idle(raw)
    options = bodies.value(raw, "stream_options", dict[str, msgspec.Raw]) or {}
    changes: dict[str, Any] = {
        # A request that is not streamed goes on decoding for nobody when its client leaves.
        "stream": True,
        "stream_options": {**options, "include_usage": True},
        "max_tokens": min(limit or spec.context_tokens, spec.context_tokens),
    }
    return {**changes, **_allowed_tools(raw)}


def _allowed_tools(raw: bodies.Fields) -> dict[str, Any]:
    """Those that `tool_choice` allows, as a choice among fewer: engines do not know that form."""
    wish = tools.read(raw) if "tool_choice" in raw else None
    if wish is None or not wish.allows_some:
        return {}
    return {"tools": [tool.raw for tool in wish.tools], "tool_choice": wish.choice}


def streamed(
    endpoint: Endpoint,
    raw: bodies.Fields,
    changes: Mapping[str, Any],
    *,
    rewrite: Callable[[], Rewrite] | None = None,
) -> ChildRequest:
    body = bodies.with_changes(raw, changes)
    return ChildRequest(path=endpoint.value, body=body, streamed=True, rewrite=rewrite)


def whole(endpoint: Endpoint, body: bytes) -> ChildRequest:
    """For work that is one step of the engine, which nobody can leave in the middle."""
    return ChildRequest(path=endpoint.value, body=body, streamed=False)
