"""A whole answer of which a client has the begin already: that is dropped, to the byte.

What differs from it before the seam is another answer, and then nothing may be sent of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from helexa.protocol.continuation import DeliveredCall, DeliveredChoice
from helexa.protocol.errors import NotContinuable, RuntimeMalformed
from helexa.runtime.continuing.voice import Json, Voice, decoded, encode

_TEXTS: Final = ("content", "reasoning_content")


class _Left:
    """What of one text has still to come again."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def new_of(self, piece: str) -> str:
        """What of a piece a client does not have. Raises NotContinuable."""
        if not self.text:
            return piece
        shared = min(len(piece), len(self.text))
        if piece[:shared] != self.text[:shared]:
            raise differs()
        self.text = self.text[shared:]
        return piece[shared:]


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self, said: DeliveredCall) -> None:
        self.id = said.id
        self.name = _Left(said.name)
        self.arguments = _Left(said.arguments)

    @property
    def is_left(self) -> bool:
        return bool(self.name.text or self.arguments.text)


class _Choice:
    """What of one choice was delivered."""

    def __init__(self, said: DeliveredChoice) -> None:
        self.finish = said.finish_reason
        self._texts = {
            "content": _Left("".join(said.content)),
            "reasoning_content": _Left("".join(said.reasoning)),
        }
        self._calls = {one.index: _Call(one) for one in said.tool_calls}

    @property
    def is_left(self) -> bool:
        """Whether something of it has not come again yet."""
        return any(one.text for one in self._texts.values()) or any(
            one.is_left for one in self._calls.values()
        )

    def delta(self, delta: Json) -> Json:
        """What is new of a piece of a chat."""
        new: Json = {}
        for name, value in delta.items():
            if name == "role":
                continue
            if name in _TEXTS and isinstance(value, str):
                value = self._texts[name].new_of(value)  # noqa: PLW2901 - the same, cut
            elif name == "tool_calls" and isinstance(value, list):
                value = [one for each in value if (one := self._call(each))]  # noqa: PLW2901
            if value not in (None, "", []):
                new[name] = value
        return new

    def text(self, text: str) -> str:
        return self._texts["content"].new_of(text)

    def _call(self, piece: Json) -> Json:
        known = self._calls.get(piece.get("index", 0))
        if known is None:
            return piece
        function = piece.get("function") or {}
        name = known.name.new_of(function.get("name") or "")
        arguments = known.arguments.new_of(function.get("arguments") or "")
        said = {key: text for key, text in (("name", name), ("arguments", arguments)) if text}
        return {"index": piece.get("index", 0), "function": said} if said else {}


class Replayed:
    """A `Rewrite`. `resumed` are the tokens that were delivered, where somebody counted them."""

    def __init__(self, voice: Voice, *, resumed: int | None, is_several: bool = False) -> None:
        self._voice = voice
        self._is_several = is_several
        self._choices = {one.index: _Choice(one) for one in voice.delivered.choices}
        self._resumed = resumed
        self._dropped = 0
        """Events that a client has the whole of."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        chunk = decoded(payload)
        if "error" in chunk:
            return (payload,)
        pieces, usage = chunk.get("choices"), chunk.pop("usage", None)
        if not isinstance(pieces, list):
            raise RuntimeMalformed(reason="The runtime sent an event without choices.")
        new = [one for each in pieces if (one := self._new(each)) is not None]
        said = []
        if new:
            said.append(encode(self._voice.relabelled({**chunk, "choices": new})))
        elif any(map(_speaks, pieces)):
            self._dropped += 1
        if isinstance(usage, dict):
            said.append(self._voice.usage(usage, self._count(usage)))
        return said

    def _new(self, piece: Json) -> Json | None:
        known = self._choices.get(piece.get("index", 0))
        if known is None:
            return piece
        new = dict(piece)
        if self._voice.is_chat:
            delta = new["delta"] = known.delta(piece.get("delta") or {})
            has_news = bool(delta)
        else:
            new["text"] = known.text(piece.get("text") or "")
            has_news = bool(new["text"])
        if (has_news or new.get("finish_reason")) and known.is_left:
            raise differs()
        if has_news and known.finish:
            raise differs()
        if has_news and new.get("logprobs") and _is_cut(piece, new):
            raise NotContinuable("Log probabilities cannot be divided where the stream broke off.")
        if known.finish and new.get("finish_reason") not in (None, known.finish):
            raise differs()
        return new if has_news or (new.get("finish_reason") and not known.finish) else None

    def _count(self, usage: Json) -> int:
        counted = self._dropped if self._resumed is None else self._resumed
        most = usage.get("completion_tokens")
        # Of several answers each counts its own, and these are those of all.
        if self._is_several or not isinstance(most, int):
            return counted
        return min(counted, most)

    def end(self) -> Sequence[bytes]:
        if any(one.is_left for one in self._choices.values()):
            raise differs()
        return ()

    def whole(self, body: bytes) -> bytes:
        return body


def _speaks(piece: Json) -> bool:
    delta = piece.get("delta") or {}
    names = (*_TEXTS, "tool_calls")
    return bool(piece.get("text") or any(delta.get(name) for name in names))


def _is_cut(piece: Json, new: Json) -> bool:
    def texts(of: Json) -> Any:
        return of.get("text") or (of.get("delta") or {}).get("content")

    return bool(texts(piece) != texts(new))


def differs() -> NotContinuable:
    return NotContinuable("This engine's answer is another one than what was delivered.")
