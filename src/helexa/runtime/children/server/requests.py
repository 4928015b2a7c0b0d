"""From a body's bytes to what an engine is asked. Pure; raises Refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from . import fields
from .engine import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RERANK,
    Embedding,
    Generation,
    Refused,
    Reranking,
)

_NOT_ENGINES = frozenset(
    {
        *fields.ALWAYS[CHAT],
        *fields.ALWAYS[COMPLETIONS],
        *fields.ALWAYS[EMBEDDINGS],
        *fields.ALWAYS[RERANK],
        "n",
        "dimensions",
    }
)


@dataclass(frozen=True)
class Asked:
    """A generation, and how its answer is to be written."""

    request: Generation
    is_streamed: bool
    wants_usage: bool


def parsed(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"The body is not valid JSON: {str(error)[:200]}.", code="invalid_body"
        ) from error
    if not isinstance(value, dict):
        raise Refused("The body is not a JSON object.", code="invalid_body")
    if b"\\u" in body and not _is_text(value):
        raise Refused("The body has half a character in it.", code="invalid_body")
    if not fields.is_shallow(value):
        raise Refused("The body is nested too deeply.", code="invalid_body")
    return value


def generation(kind: str, body: Mapping[str, Any], honoured: Collection[str], name: str) -> Asked:
    said = fields.check(kind, body, honoured)
    must = "messages" if kind == CHAT else "prompt"
    _need(said, must)
    stop = said.get("stop", ())
    options = said.get("stream_options", {})
    request = Generation(
        id=name,
        messages=said["messages"] if kind == CHAT else (),
        prompt=_prompt(said["prompt"], honoured) if kind == COMPLETIONS else "",
        max_tokens=said.get("max_completion_tokens", said.get("max_tokens")),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        n=said.get("n", 1),
        fields=_for_engine(said),
    )
    return Asked(request, bool(said.get("stream")), bool(options.get("include_usage")))


def embedding(body: Mapping[str, Any], honoured: Collection[str]) -> tuple[Embedding, str]:
    """And how the vectors are to be written: `float` or `base64`."""
    said = fields.check(EMBEDDINGS, body, honoured)
    _need(said, "input")
    given = said["input"]
    inputs = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    if "input_ids" not in honoured and not all(isinstance(one, str) for one in inputs):
        raise fields.unsupported("input")
    request = Embedding(inputs, said.get("dimensions"), _for_engine(said))
    return request, said.get("encoding_format", "float")


@dataclass(frozen=True)
class Ranking:
    request: Reranking
    top_n: int
    with_documents: bool


def reranking(body: Mapping[str, Any], honoured: Collection[str]) -> Ranking:
    said = fields.check(RERANK, body, honoured)
    _need(said, "query")
    _need(said, "documents")
    documents = [one if isinstance(one, str) else one["text"] for one in said["documents"]]
    return Ranking(
        request=Reranking(said["query"], documents, _for_engine(said)),
        top_n=min(said.get("top_n", len(documents)), len(documents)),
        with_documents=said.get("return_documents", False),
    )


def texts(said: Mapping[str, Any]) -> tuple[Sequence[str], bool]:
    """Of a request to tokenize, and whether with special tokens. Raises Refused."""
    given = said.get("content")
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Refused("`content` is a text or a list of them.", param="content")
    return found, bool(said.get("special", True))


def ids(said: Mapping[str, Any]) -> Sequence[int]:
    """Of a request to detokenize. Raises Refused."""
    found = said.get("tokens")
    if not isinstance(found, list) or not all(type(one) is int and one >= 0 for one in found):
        raise Refused("`tokens` is a list of numbers of 0 or more.", param="tokens")
    return found


def _for_engine(said: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in said.items() if name not in _NOT_ENGINES}


def _prompt(given: Any, honoured: Collection[str]) -> Any:
    if isinstance(given, str):
        return given
    if isinstance(given[0], int):
        found = given
    elif len(given) == 1:
        found = given[0]
    else:
        raise Refused(
            "One prompt at a time is answered here.", param="prompt", code="unsupported_capability"
        )
    if not isinstance(found, str) and "prompt_ids" not in honoured:
        raise fields.unsupported("prompt")
    return found


def _need(said: Mapping[str, Any], name: str) -> None:
    if name not in said:
        raise Refused(f"`{name}` is missing.", param=name, code="invalid_body")


def _is_text(value: Any) -> bool:
    """Python's reader lets half of a surrogate pair pass; engines raise something odd for one."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    # Python's reader takes these; nobody else's does, and they make nonsense of every number.
    raise ValueError(f"{name} is no JSON")
