"""Only what comes after the seam, of an engine that was given what came before it.

Asked by tokens it speaks of a text, whatever the client asked for; here that becomes the
chunks of the client's surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helexa.protocol.errors import RuntimeMalformed
from helexa.runtime.continuing.replay import differs
from helexa.runtime.continuing.seam import Seam
from helexa.runtime.continuing.voice import (
    Json,
    Voice,
    cached_in,
    counts,
    decoded,
    encode,
    thoughts_in,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an engine was given of an answer."""

    prompt: int | None
    """Tokens of the prompt; None where nobody counted them."""
    resumed: int
    """Tokens that were delivered."""
    given: int
    """Those of them that it was given."""
    thoughts: int = 0
    """Those of them that were thoughts."""
    again: str = ""
    """The text of the others, which has to come again first."""
    ends: str = ""
    """There is nothing to come but the end, for this reason; the engine's own text is none."""
    is_finished: bool = False
    """And a client has that reason already."""


class Onward:
    """A `Rewrite`."""

    def __init__(self, voice: Voice, given: Given, stops: Sequence[str]) -> None:
        self._voice = voice
        self._given = given
        self._again = given.again
        self._seam = Seam("".join(_text(voice)), stops)
        self._finish = given.ends
        self._said: list[bytes] = []
        self._shown = 0
        """Events until a stop string that spans the seam was whole."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        chunk = decoded(payload)
        if "error" in chunk:
            return (payload,)
        said: list[bytes] = []
        for choice in chunk.get("choices") or ():
            said += self._of(choice, chunk)
        if isinstance(usage := chunk.get("usage"), dict):
            said.append(self._voice.usage(self._counts(usage), self._given.resumed))
        return said

    def _of(self, choice: Json, chunk: Json) -> list[bytes]:
        delta = choice.get("delta")
        text = choice.get("text") if delta is None else delta.get("content")
        more = {} if delta is None else {k: v for k, v in delta.items() if k not in _OWN}
        reason = choice.get("finish_reason")
        said = []
        if self._given.ends:
            if reason and not self._given.is_finished:
                said.append(self._voice.finish(self._given.ends))
            return said
        if isinstance(text, str) and (new := self._new(text)):
            said.append(self._voice.piece(new))
        more = {name: value for name, value in more.items() if value not in (None, "", [])}
        if more:
            if self._again or self._seam.is_stopped:
                raise differs()
            piece = {"index": 0, "delta": more, "finish_reason": None}
            said.append(encode(self._voice.relabelled({**chunk, "choices": [piece]})))
        if reason:
            if self._again:
                raise differs()
            if rest := self._seam.rest():
                said.append(self._voice.piece(rest))
            if self._given.is_finished:
                return said
            said.append(self._voice.finish("stop" if self._seam.is_stopped else str(reason)))
        return said

    def _new(self, text: str) -> str:
        if self._again:
            shared = min(len(text), len(self._again))
            if text[:shared] != self._again[:shared]:
                raise differs()
            self._again, text = self._again[shared:], text[shared:]
        if not text:
            return ""
        if not self._seam.is_stopped:
            self._shown += 1
        if self._given.is_finished:
            raise differs()
        return self._seam.feed(text)

    def _counts(self, usage: Json) -> Json:
        given = self._given
        own, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
        if not isinstance(own, int) or not isinstance(prompt, int):
            raise RuntimeMalformed(reason="The runtime's counts cannot be read.")
        if given.ends:
            completion = given.resumed
        elif self._seam.is_stopped:
            completion = given.resumed + min(own, self._shown)
        else:
            completion = given.given + own
        read = prompt - given.given if given.prompt is None else given.prompt
        told = counts(max(read, 0), completion, cached_in(usage))
        if thoughts := given.thoughts + thoughts_in(usage):
            told["completion_tokens_details"] = {"reasoning_tokens": min(thoughts, completion)}
        return told

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return body


_OWN = ("role", "content")


def _text(voice: Voice) -> Sequence[str]:
    choices = voice.delivered.choices
    return choices[0].content if choices else ()
