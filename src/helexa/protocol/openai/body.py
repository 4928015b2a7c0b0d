"""A JSON body, opened no further than its reader must.

Only what the engine would misunderstand is decoded. All other fields stay the
client's own bytes, in the client's order: helexa passes a request on, it does
not rewrite it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from helexa.protocol import prefix
from helexa.protocol.errors import BodyMalformed
from helexa.protocol.openai import text
from helexa.protocol.openai.text import NAMED_BYTES_MAX

Fields: TypeAlias = dict[str, msgspec.Raw]
T = TypeVar("T")

_fields: Final = msgspec.json.Decoder(Fields)
_encoder: Final = msgspec.json.Encoder()
_ANY: Final = "[...]"
"""A member of an object, whichever it is."""
_PATH: Final = re.compile(r" - at `(?:\$|key in `?\$)\.?([^`]*)`")


def fields(body: bytes) -> Fields:
    """The members of the JSON object `body`, undecoded, in order. Raises BodyMalformed."""
    return typed(_fields, body)


def typed(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, at: str = "") -> T:
    """`body`, which stands `at` this field, by a decoder made once.

    Raises BodyMalformed naming the field at fault.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _malformed(str(error), at, body) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = f"The body is not valid JSON: {str(error)[:200]}."
        raise BodyMalformed(reason=reason, field=at or None) from error
    except RecursionError as error:
        reason = "The body is nested too deeply."
        raise BodyMalformed(reason=reason, field=at or None) from error


def value(raw: Fields, name: str, kind: Any) -> Any:
    """One member decoded as `kind`, None when it is absent or null. Raises BodyMalformed."""
    member = raw.get(name)
    if member is None or bytes(member) == b"null":
        return None
    return typed(msgspec.json.Decoder(kind), member, name)


def member(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, name: str) -> T:
    """One member by a decoder made once. Raises BodyMalformed."""
    return typed(decoder, raw, name)


def prompt_heads(body: bytes, name: str) -> tuple[int, ...]:
    """`protocol.prefix` heads of the member that is the prompt; none where there is no such one.

    Over the client's own bytes, so that a cortex and a neuron find the same. Raises
    BodyMalformed.
    """
    if len(body) < prefix.SHORTEST_BYTES:
        return ()
    prompt = fields(body).get(name)
    return () if prompt is None else prefix.heads(memoryview(prompt))


def prompts_in(raw: Fields, name: str) -> int:
    """How many prompts the member of that name holds: a text or a list of tokens is one."""
    member = raw.get(name)
    if member is None or bytes(memoryview(member)[:1]) != b"[":
        return 1
    each = value({name: member}, name, list[msgspec.Raw])
    if not each or bytes(memoryview(each[0])[:1]) not in (b'"', b"[", b"{"):
        return 1
    return len(each)


def with_changes(raw: Fields, changes: Mapping[str, Any]) -> bytes:
    """The body again, with `changes` in place of (or after) the members of those names."""
    merged: dict[str, Any] = dict(raw)
    merged.update(changes)
    return _encoder.encode(merged)


def _malformed(said: str, prefix: str, body: bytes | msgspec.Raw) -> BodyMalformed:
    match = _PATH.search(said)
    path = match[1] if match else ""
    reason = said[: match.start()] if match else said
    if _ANY in path:
        path = _overflow(reason, body) or path.partition(_ANY)[0]
    member = re.match(r"Object (?:missing required|contains unknown) field `(\w+)`", reason)
    parts = [prefix, path, member[1] if member else ""]
    where = ".".join(part for part in parts if part).replace(".[", "[")
    shown = f"{reason[:200]}, in `{where}`" if where else reason[:200]
    return BodyMalformed(reason=f"{shown}.", field=where or None)


def _overflow(reason: str, body: bytes | msgspec.Raw) -> str | None:
    """Where the number stands that this is about, if it is about one."""
    if not reason.startswith("Number out of range") or len(body := bytes(body)) > NAMED_BYTES_MAX:
        return None
    return text.place(body, lambda value: isinstance(value, float) and math.isinf(value))


def with_end(body: bytes, output_tokens: int) -> bytes:
    """A sound request for text that sets no end to its answer, with this one; all else as it was.

    It comes last: a `null` of the same name that stands before it does not hold.
    """
    return b'%s,"max_tokens":%d}' % (body.rstrip()[:-1], output_tokens)
