"""Embeddings alike on every engine: what may be asked for, and in which form it comes.

An engine may know `base64` or not, cut vectors or not, embed nothing as something, and
take a list of words and numbers for one text. A client is told the same by all: inputs
are judged here, and the answer is looked at, and written anew only where the engine did
not already say what was asked for.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, CapabilityMissing, RuntimeMalformed
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai.requests import Texts
from helexa.runtime.contract import Ability, Capabilities, ModelFiles
from helexa.runtime.openai import prompts

INPUTS_MAX: Final = 2048
"""In one request, as at OpenAI."""
_FORMATS: Final = (None, "float", "base64")


class _Asked(msgspec.Struct):
    input: Texts
    encoding_format: str | None = None
    dimensions: int | None = None


class _Vector(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


class _Answer(msgspec.Struct):
    data: list[_Vector]


_asked: Final = msgspec.json.Decoder(_Asked)
_answer: Final = msgspec.json.Decoder(_Answer)
_floats: Final = msgspec.json.Decoder(list[float])
_text: Final = msgspec.json.Decoder(str)
_items: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_encode: Final = msgspec.json.Encoder().encode
_OF_NUMBERS: Final = b"[]0123456789+-.eE, \t\r\n"


@dataclass(frozen=True, slots=True)
class Vectors:
    """What one request wants."""

    count: int
    packed: bool
    """In base64."""
    length: int = 0
    """0 is whatever the model has."""
    cut: bool = False
    """Here, from longer ones, which have unit length again afterwards."""

    def settled(self, body: bytes) -> bytes:
        """The engine's whole answer as it was asked for. Raises RuntimeMalformed."""
        try:
            found = _answer.decode(body).data
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeMalformed(
                reason="The runtime answered something that holds no vectors."
            ) from error
        if sorted(one.index for one in found) != list(range(self.count)):
            raise RuntimeMalformed(
                reason=f"The runtime answered {len(found)} vectors for {self.count} inputs."
            )
        is_in_order = all(one.index == at for at, one in enumerate(found))
        is_as_asked = all(_is_packed(one.embedding) is self.packed for one in found)
        if is_in_order and is_as_asked and not self.cut and not self.length:
            for one in found:
                _check_numbers(one.embedding)
            return body
        return self._anew(body)

    def _anew(self, body: bytes) -> bytes:
        fields: dict[str, Any] = dict(bodies.fields(body))
        items = _items.decode(fields["data"])
        items.sort(key=lambda one: int(bytes(one["index"])))
        fields["data"] = [self._item(one) for one in items]
        return _encode(fields)

    def _item(self, item: dict[str, msgspec.Raw]) -> dict[str, Any]:
        vector = self._fitted(_numbers(item["embedding"]))
        written = _packed(vector) if self.packed else vector.tolist()
        kept = {name: value for name, value in item.items() if name != "encoding_format"}
        return {**kept, "embedding": written}

    def _fitted(self, vector: array[float]) -> array[float]:
        if self.cut and len(vector) > self.length:
            vector = vector[: self.length]
            norm = math.sqrt(math.fsum(one * one for one in vector))
            if norm:
                vector = array("f", (one / norm for one in vector))
        if self.length and len(vector) != self.length:
            raise RuntimeMalformed(
                reason=f"The runtime answered vectors of {len(vector)} numbers, not {self.length}."
            )
        return vector


def asked(
    body: bytes, files: ModelFiles, offered: Capabilities, *, runtime: str
) -> tuple[Vectors, bytes]:
    """And the body for the engine, without what is done here. Raises a 400."""
    wanted = bodies.typed(_asked, body)
    count = _count(wanted.input, files.vocabulary)
    if wanted.encoding_format not in _FORMATS:
        raise BodyMalformed(
            reason="`encoding_format` is `float` or `base64`.", field="encoding_format"
        )
    packed = wanted.encoding_format == "base64"
    length = wanted.dimensions
    if length is None:
        return Vectors(count, packed), body
    if Ability.DIMENSIONS in offered.abilities and not files.dimensions:
        # Only the engine knows to what its vectors may be cut.
        return Vectors(count, packed, length), body
    _check_length(length, files, runtime)
    raw = bodies.fields(body)
    del raw["dimensions"]
    return Vectors(count, packed, length, cut=True), bodies.with_changes(raw, {})


def _check_length(length: int, files: ModelFiles, runtime: str) -> None:
    whole = files.embedding_length
    allowed = sorted({*files.dimensions, *([whole] if whole else ())}, reverse=True)
    if length in allowed:
        return
    if files.dimensions:
        raise BodyMalformed(
            reason=f"`dimensions` is one of {', '.join(map(str, allowed))} with this model, not "
            f"{length}.",
            field="dimensions",
        )
    has = f" of another length than {whole}" if whole else " of another length"
    raise CapabilityMissing(
        model=files.model, capability=f"vectors{has}", runtime=runtime, field="dimensions"
    )


def _count(given: Texts, vocabulary: int) -> int:
    """Of the inputs. Raises BodyMalformed for what engines read differently."""
    count = prompts.check(given, "input", vocabulary)
    if count > INPUTS_MAX:
        raise BodyMalformed(
            reason=f"`input` has {count} entries; at most {INPUTS_MAX} are taken at once.",
            field="input",
        )
    return count


# --- numbers


def _is_packed(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b'"'


def _check_numbers(raw: msgspec.Raw) -> None:
    """Raises RuntimeMalformed; what is not a number is null in JSON, or worse."""
    if _is_packed(raw):
        _numbers(raw)
    elif bytes(raw).translate(None, _OF_NUMBERS):
        raise _odd()


def _numbers(raw: msgspec.Raw) -> array[float]:
    try:
        if not _is_packed(raw):
            vector = array("f", _floats.decode(raw))
        else:
            vector = array("f", base64.b64decode(_text.decode(raw), validate=True))
            if sys.byteorder == "big":
                vector.byteswap()
    except (msgspec.MsgspecError, binascii.Error, ValueError, OverflowError) as error:
        raise _odd() from error
    if not math.isfinite(sum(vector)):
        raise _odd()
    return vector


def _packed(vector: array[float]) -> str:
    """As OpenAI does: 32-bit floats, the lowest byte first."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode("ascii")


def _odd() -> RuntimeMalformed:
    return RuntimeMalformed(reason="The runtime answered a vector that is not made of numbers.")
