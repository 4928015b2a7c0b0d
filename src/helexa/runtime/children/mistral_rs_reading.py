"""What mistral.rs sends for one choice, read off the bytes of its tokens.

Its own text lacks the first space of an answer, and with some templates has the token in it that
ended the answer; its bytes have all of it, halves of characters included.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import mistral_rs_asking as asking
from .server.engine import Counts, Generation, Piece
from .server.markup import CALL, CALLED, Markup


class Reading:
    def __init__(
        self,
        request: Generation,
        choice: int,
        before: Counts,
        *,
        opened: bool | None,
        is_token: bool,
        is_special: Callable[[str], bool],
    ) -> None:
        """`before` is what earlier choices took.

        `opened` is whether the prompt has begun a thought, None where the model has none;
        `is_token` is said of `<tool_call>`, `is_special` says it of a token's text.
        """
        said = request.fields
        self.is_over = False
        self._choice = choice
        self._before = self._counts = before
        self._thinks = opened is not None
        self._is_special = is_special
        self._markup = Markup(
            choice=choice,
            thinks=self._thinks,
            is_open=bool(opened),
            tools=[one["function"]["name"] for one in said.get("tools", ())]
            if said.get("tool_choice") != "none"
            else (),
        )
        # The marks of a call that had to be made are left out where they are tokens.
        self._is_marked = is_token and asking.must_call(said)
        if self._is_marked:
            self._markup.feed(CALL)
        self._calls_once = not said.get("parallel_tool_calls", True)
        self._shows_logprobs = "logprobs" in said
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = b""

    def feed(self, chunk: Any) -> Sequence[Piece]:
        part = chunk.choices[0]
        self._count(chunk)
        pieces = self._markup.feed(self._decode(self._token(part), False))
        finish = str(part.finish_reason or "")
        if finish:
            end = CALLED if self._is_marked and finish == "stop" else ""
            pieces += self._markup.feed(self._decode(b"", True) + end) + self._markup.end()
        if self._markup.calls and self._calls_once:
            first = next(at for at, one in enumerate(pieces) if one.calls)
            pieces, finish = pieces[: first + 1], "stop"
        if finish:
            self.is_over = True
            called = bool(self._markup.calls) and finish == "stop"
            last = Piece(choice=self._choice, finish="tool_calls" if called else finish)
            pieces = [*pieces, last]
        return self._told(pieces, part.logprobs)

    def _token(self, part: Any) -> bytes:
        token = bytes(part.logprobs.bytes or b"") if part.logprobs else b""
        if not (part.finish_reason == "stop" and part.logprobs is None):
            token, self._held = self._held + token, b""
        if self._thinks and token and self._is_special(token.decode(errors="replace")):
            # With a template that thinks, the token that ends the answer comes along, too.
            token, self._held = b"", token
        return token

    def _told(self, pieces: Sequence[Piece], logprobs: Any) -> Sequence[Piece]:
        """Something also for a token that said nothing: then it is asked whether to go on."""
        first, *rest = pieces or [Piece(choice=self._choice)]
        if self._shows_logprobs and logprobs is not None:
            first = replace(first, logprobs=[_entry(logprobs)])
        return [replace(one, counts=self._counts) for one in (first, *rest)]

    def _count(self, chunk: Any) -> None:
        old, usage = self._counts, getattr(chunk, "usage", None)
        if usage is not None:
            details = getattr(usage, "prompt_tokens_details", None)
            cached = getattr(details, "cached_tokens", 0) or 0
            self._counts = replace(
                old,
                completion=self._before.completion + usage.completion_tokens,
                cached=min(max(cached, self._before.cached or 0), old.prompt),
            )
        elif chunk.choices[0].logprobs:
            thought = int(self._markup.is_thinking)
            self._counts = replace(
                old, completion=old.completion + 1, reasoning=old.reasoning + thought
            )


def _entry(told: Any) -> Mapping[str, Any]:
    token = bytes(told.bytes or b"")
    return {
        "token": token.decode(errors="replace"),
        "logprob": told.logprob,
        "bytes": list(token),
        "top_logprobs": [_top(one) for one in told.top_logprobs or ()],
    }


def _top(told: Any) -> Mapping[str, Any]:
    text = told.bytes or ""
    return {"token": text, "logprob": told.logprob, "bytes": list(text.encode())}
