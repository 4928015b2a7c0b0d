"""A prompt that cannot fit whatever it says is refused before an engine sees it.

An engine renders and splits a prompt whole before it finds it too long; that cannot be
stopped, and takes a multiple of the prompt's memory. So its tokens are bounded from below: none
stands for more bytes than the longest of the vocabulary. What a template or a tokenizer may
leave out is not counted, so nothing that could fit is refused: `developer` messages, which many
templates do not know, tools and calls, which each writes in a way of its own. What is too long by
these the engine finds, and says with its own count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import anyio.to_thread
import msgspec

from helexa.protocol.errors import BodyMalformed, PromptTooLong
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Endpoint, ReplicaSpec

INLINE_BYTES_MAX: Final = 256 * 1024
"""Larger bodies are looked at beside the event loop."""
COUNTED_TIMES: Final = 4
"""So many contexts may be counted without being served, so that a client sees by how much."""
_MESSAGE_BYTES: Final = 20
"""Fewer than any message with a role and a text has in JSON."""
_ID_BYTES: Final = 2
_MEMBERS: Final = {
    Endpoint.CHAT: ("messages",),
    Endpoint.COMPLETIONS: ("prompt",),
    Endpoint.EMBEDDINGS: ("input",),
    Endpoint.RERANK: ("documents", "query"),
}
_SHORTENS: Final = ("truncate_prompt_tokens", "truncate", "truncation", "chat_template")
"""Members by which some engine reads less than what was sent, or otherwise."""
_SPACES: Final = b" \t\n\r\v\f"
"""A template trims them, and some special tokens take in all that stand beside them."""
_THOUGHTS: Final = ("</", "[/", "<|", "|>")
"""Templates drop an earlier answer's thoughts, which end in a mark of one of these."""
_ROLE: Final = r"""message(?:\.role|\[['"]role['"]\])"""
_ROLE_WRITTEN: Final = re.compile(rf"\{{\{{[^{{}}]*{_ROLE}")
_ROLE_ASKED: Final = re.compile(rf"{_ROLE}\s*(?:==|!=|\bin\b|\bnot\b)")
_LAST_ONLY: Final = re.compile(r"\[\s*-\s*\d+\s*:")


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[_Part] | None = None


class _Document(msgspec.Struct):
    text: str = ""


_messages: Final = msgspec.json.Decoder(list[_Message])
_prompts: Final = msgspec.json.Decoder(str | list[str | int | list[int]])
_documents: Final = msgspec.json.Decoder(str | list[str | _Document])


async def check(endpoint: Endpoint, body: bytes, spec: ReplicaSpec, *, times: int = 1) -> None:
    """Raises PromptTooLong for what needs more than `times` the context, however it is read."""
    if may_fit(endpoint, body, spec, times):
        return
    if len(body) > INLINE_BYTES_MAX:
        await anyio.to_thread.run_sync(_check, endpoint, body, spec, times)
    else:
        _check(endpoint, body, spec, times)


def may_fit(endpoint: Endpoint, body: bytes, spec: ReplicaSpec, times: int = 1) -> bool:
    """By its mere size; True where nothing is known of the vocabulary."""
    token_bytes = spec.files.token_bytes_max
    least = _MESSAGE_BYTES if endpoint is Endpoint.CHAT else _ID_BYTES
    return not token_bytes or len(body) <= spec.context_tokens * times * min(token_bytes, least)


def _check(endpoint: Endpoint, body: bytes, spec: ReplicaSpec, times: int) -> None:
    raw = bodies.fields(body)
    if any(name in raw for name in _SHORTENS):
        return
    for name in _MEMBERS[endpoint]:
        if (member := raw.get(name)) is None:
            continue
        try:
            tokens = least_tokens(endpoint, member, spec)
        except BodyMalformed:
            continue  # Those who read it for its own sake say so better.
        if tokens > spec.context_tokens * times:
            raise PromptTooLong(tokens, spec.context_tokens, name, is_least=True)


def least_tokens(endpoint: Endpoint, member: msgspec.Raw, spec: ReplicaSpec) -> int:
    """That the longest prompt of this member has at least. Raises BodyMalformed."""
    most = spec.files.token_bytes_max
    if endpoint is Endpoint.CHAT:
        if not _renders_all(spec.files.chat_template):
            return 0
        said = bodies.member(_messages, member, "messages")
        counted = [n for n in map(_bytes, _certain(said, spec.files.chat_template)) if n]
        return max(len(counted), -(-sum(counted) // most))
    if endpoint is Endpoint.RERANK:
        texts = bodies.member(_documents, member, "documents")
        each = [texts] if isinstance(texts, str) else texts
        return max(
            (-(-_bytes(one if isinstance(one, str) else one.text) // most) for one in each),
            default=0,
        )
    given = bodies.member(_prompts, member, "prompt")
    if isinstance(given, list) and given and isinstance(given[0], int):
        # One prompt; of a mixture the engine decides.
        return len(given) if all(isinstance(one, int) for one in given) else 0
    each_prompt = [given] if isinstance(given, str) else given
    return max(
        (
            -(-_bytes(one) // most) if isinstance(one, str) else len(one)
            for one in each_prompt
            if not isinstance(one, int)
        ),
        default=0,
    )


def _certain(said: list[_Message], template: str) -> Iterable[str]:
    """The texts that every template renders."""
    systems = sum(one.role == "system" for one in said)
    for at, one in enumerate(said):
        text = one.content
        if isinstance(text, list):
            text = "".join(part.text or "" for part in text)
        if not text:
            continue
        match one.role:
            case "user":
                yield text
            case "system" if systems == 1 and _has_system(template, first=at == 0):
                # Of several, some templates render the last alone.
                yield text
            case "tool" if _has_tools(template):
                yield text
            case "assistant" if not any(mark in text for mark in _THOUGHTS):
                yield text
            case _:
                pass


@lru_cache(maxsize=64)
def _renders_all(template: str) -> bool:
    """Whether it goes through all messages; an engine's own, for none here, does."""
    return not template or ("{%" in template and not _LAST_ONLY.search(template))


@lru_cache(maxsize=64)
def _has_system(template: str, *, first: bool) -> bool:
    """Whether it surely renders a system message: some know none, or one at the beginning alone."""
    if not template or _treats_alike(template):
        return True
    return first and ("'system'" in template or '"system"' in template)


def _treats_alike(template: str) -> bool:
    """Whether it writes any role as it is, and looks for none."""
    return _ROLE_WRITTEN.search(template) is not None and not _ROLE_ASKED.search(template)


@lru_cache(maxsize=64)
def _has_tools(template: str) -> bool:
    return "'tool'" in template or '"tool"' in template


def _bytes(text: str) -> int:
    return len(text.strip().encode("utf-8", "surrogatepass").translate(None, _SPACES))
