"""What to ask an engine for, to go on with a broken stream: one attempt for each way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from helexa.protocol.continuation import Continuation, DeliveredChoice
from helexa.protocol.errors import NotContinuable
from helexa.protocol.openai import body as bodies
from helexa.runtime.continuing import choice, situation, tokens
from helexa.runtime.continuing.choice import Sampling, Situation, Way
from helexa.runtime.continuing.onward import Given, Onward
from helexa.runtime.continuing.replay import Replayed
from helexa.runtime.continuing.voice import Voice
from helexa.runtime.contract import (
    Asking,
    Chat,
    ChildRequest,
    Endpoint,
    ReplicaSpec,
    Rewrite,
    RuntimeAdapter,
    Text,
    TokenizingAdapter,
)
from helexa.runtime.openai import calls, limits
from helexa.runtime.shaping import shaped

_OF_CHATS: Final = (
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "n"),
    *("chat_template_kwargs", "add_generation_prompt", "continue_final_message"),
    *("reasoning_effort", "reasoning_format", "logprobs", "top_logprobs", "modalities"),
    *("prediction", "functions", "function_call", "chat_template"),
)
"""What is not said to an engine that is asked for a text."""
_NOTHING: Final = DeliveredChoice()


@dataclass(slots=True)
class Continuing:
    """One broken stream at one engine."""

    wanted: Continuation
    body: bytes
    """The request, its pictures fetched."""
    adapter: RuntimeAdapter
    spec: ReplicaSpec
    resumed: int = 0
    """Tokens that were delivered, as counted by the attempt that was made last."""

    def attempts(self) -> Iterator[Asking[ChildRequest]]:
        """The best first; each may raise NotContinuable, and so may what is made of its answer.

        Raises NotContinuable where there is no way, and a 400.
        """
        offered = self.adapter.serves(self.spec.files)
        if offered is None:
            raise NotContinuable("The model is not served here.")
        found = situation.read(self.wanted, self.body, self.adapter, self.spec, offered)
        ways = choice.ways(found)
        if not ways:
            raise NotContinuable(f"It cannot be gone on with: {choice.why_not(found)}.")
        for way in ways:
            if way is Way.REPLAY:
                yield self._replay(found)
            elif way is Way.TEXT:
                yield self._text()
            else:
                yield self._tokens(found, steps_back=True)
                if not found.is_deterministic and found.sampling is Sampling.GREEDY:
                    yield self._tokens(found, steps_back=False)

    @property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self.wanted.path)

    @property
    def _first(self) -> DeliveredChoice:
        choices = self.wanted.delivered.choices
        return choices[0] if choices else _NOTHING

    def _replay(self, of: Situation) -> Asking[ChildRequest]:
        voice = Voice(self.wanted.delivered, of.is_chat)
        resumed = yield from self._counted()
        self.resumed = resumed or 0
        request = shaped(self.adapter, self._endpoint, self.body, self.spec)
        return _through(request, lambda: Replayed(voice, resumed=resumed, is_several=of.is_several))

    def _counted(self) -> Asking[int | None]:
        """Tokens of all that was delivered, where the engine can be asked."""
        pieces = [
            piece
            for one in self.wanted.delivered.choices
            for piece in (
                *one.reasoning,
                *one.content,
                *(text for call in one.tool_calls for text in (call.name, call.arguments)),
            )
            if piece
        ]
        if not pieces:
            return 0
        if not isinstance(self.adapter, TokenizingAdapter):
            return None
        found = yield from self.adapter.tokens_of_text(pieces, self.spec, special=False)
        return found.count

    def _tokens(self, of: Situation, *, steps_back: bool) -> Asking[ChildRequest]:
        adapter = self.adapter
        assert isinstance(adapter, TokenizingAdapter)
        assert isinstance(adapter, Text)
        raw = bodies.fields(self.body)
        prompt = yield from self._prompt(raw, of)
        pieces = [one for one in self._first.content if one]
        by_piece = yield from tokens.drawn(pieces, adapter, self.spec)
        drawn = [one for piece in by_piece for one in piece]
        self.resumed = len(drawn)
        stops = _stops(raw)
        again = ""
        given = drawn
        # The last token's text may be cut by a stop string, and its character may have more
        # tokens: what it was shows when it comes again.
        is_sure = len(by_piece) == len(pieces) and len(by_piece[-1:]) == 1
        is_sure = is_sure and len(by_piece[-1]) == 1 and not stops
        finish = self._first.finish_reason
        # How many tokens came to an end that shows no text shows when it comes again.
        is_over = finish == "length" or (bool(finish) and of.sampling is not Sampling.GREEDY)
        if steps_back and of.sampling is Sampling.GREEDY and not is_sure and not is_over:
            if len(by_piece) == len(pieces) and pieces:
                given, again = drawn[: len(drawn) - len(by_piece[-1])], pieces[-1]
        elif not steps_back and (is_sure or is_over):
            raise NotContinuable("There is nothing to try otherwise.")
        limit = limits.taken_out(raw)
        left = None if limit is None else limit - len(given)
        ends = finish if is_over else "length" if left is not None and left <= 0 else ""
        given_words = Given(
            prompt=len(prompt),
            resumed=len(drawn),
            given=len(given),
            again=again,
            ends=ends,
            is_finished=bool(finish),
        )
        for name in _OF_CHATS if of.is_chat else ():
            raw.pop(name, None)
        changes: dict[str, Any] = {"prompt": [*prompt, *given]}
        if ends or left is not None:
            changes["max_tokens"] = 1 if ends else left
        request = adapter.text(bodies.with_changes(raw, changes), self.spec)
        voice = Voice(self.wanted.delivered, of.is_chat)
        return _through(request, lambda: Onward(voice, given_words, stops))

    def _prompt(self, raw: bodies.Fields, of: Situation) -> Asking[Sequence[int]]:
        """The tokens of the client's own prompt."""
        adapter = self.adapter
        assert isinstance(adapter, TokenizingAdapter)
        if of.is_chat:
            found = yield from adapter.tokens_of_chat(self.body, self.spec)
        else:
            prompt = bodies.value(raw, "prompt", str | list[str | int | list[int]])
            if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)):
                prompt = prompt[0]
            if not isinstance(prompt, str):
                return prompt or ()
            found = yield from adapter.tokens_of_text(prompt, self.spec)
        if len(found.ids) != found.count:
            raise NotContinuable("The tokens of the prompt are not known.")
        return found.ids

    def _text(self) -> Asking[ChildRequest]:
        adapter = self.adapter
        assert isinstance(adapter, Chat)
        raw = bodies.fields(self.body)
        first = self._first
        prompt: int | None = None
        thoughts, resumed = len(first.reasoning), len(first.reasoning) + len(first.content)
        if isinstance(adapter, TokenizingAdapter):
            prompt = (yield from adapter.tokens_of_chat(self.body, self.spec)).count
            resumed = (yield from self._counted()) or resumed
            if thoughts:
                pieces = list(first.reasoning)
                read = yield from adapter.tokens_of_text(pieces, self.spec, special=False)
                thoughts = read.count
        self.resumed = resumed
        limit = limits.taken_out(raw)
        left = None if limit is None else limit - resumed
        ends = "length" if left is not None and left <= 0 else ""
        changes: dict[str, Any] = {
            "messages": _with_begin(raw, "".join(first.content), "".join(first.reasoning)),
            "continue_final_message": True,
            "add_generation_prompt": False,
        }
        if left is not None:
            changes["max_tokens"] = max(left, 1)
        request = adapter.chat(bodies.with_changes(raw, changes), self.spec)
        words = Given(prompt=prompt, resumed=resumed, given=resumed, thoughts=thoughts, ends=ends)
        voice, stops = Voice(self.wanted.delivered, is_chat=True), _stops(raw)
        return _through(request, lambda: Onward(voice, words, stops))


def _through(request: ChildRequest, last: Callable[[], Rewrite]) -> ChildRequest:
    """The request, with one more thing done to its answer."""
    first = (request.rewrite,) if request.rewrite is not None else ()
    return replace(request, rewrite=calls.chained([*first, last]))


def _stops(raw: bodies.Fields) -> list[str]:
    said = bodies.value(raw, "stop", str | list[str])
    return [one for one in ([said] if isinstance(said, str) else said or []) if one]


def _with_begin(raw: bodies.Fields, text: str, thought: str) -> list[Any]:
    """The messages, with what was delivered as the begin of the answer."""
    messages = bodies.value(raw, "messages", list[msgspec.Raw]) or []
    begun: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        begun["reasoning_content"] = thought
    if not bodies.value(raw, "continue_final_message", bool | str):
        return [*messages, begun]
    last = msgspec.json.decode(messages[-1])
    for name in ("content", "reasoning_content"):
        before = last.get(name) or ""
        if not isinstance(before, str):
            raise NotContinuable("The client's own begin of the answer is no text.")
        if name in begun or before:
            last[name] = before + begun.get(name, "")
    return [*messages[:-1], last]
