"""A chat completion as a response: the events of a streamed one, or the whole one.

A whole completion goes the same way as a stream of one event, so that both end in the same
response. Items come in the order in which the model said them; each is complete before the next
one begins. Events have their `sequence_number` from 0, and nothing follows the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from helexa.cortex.gateway.translation import chat
from helexa.cortex.gateway.translation.saying import (
    CALL,
    REFUSAL,
    SUMMARY,
    TEXT,
    THOUGHTS,
    Kind,
    Numbered,
    Saying,
    item_of,
)
from helexa.protocol.errors import ErrorBody, RuntimeMalformed
from helexa.protocol.openai.responses import (
    ID_START,
    FunctionCall,
    IncompleteDetails,
    InputDetails,
    LogprobSaid,
    OutputDetails,
    OutputItem,
    Response,
    ResponseError,
    ResponseUsage,
    TopLogprobSaid,
)

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a stream, whose response is held until its end; as of an answer that is not streamed."""
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}

_CODES: Final = {
    "rate_limit_error": "rate_limit_exceeded",
    "invalid_request_error": "invalid_prompt",
}
"""Of a failed response, for which OpenAI has a closed list; the `error` event has our own."""


class Teller:
    """Takes one answer: `feed` its events, then `finish` and `last`; or `take` it whole."""

    def __init__(self, response: Response, *, summarises: bool = False) -> None:
        """`summarises`: thoughts stand in the place of a summary."""
        self.response = response
        self.is_failed = False
        self._thoughts = SUMMARY if summarises else THOUGHTS
        self._ids = response.id.removeprefix(ID_START)
        self._events = Numbered()
        self._has_begun = False
        self._bytes = 0
        self._saying: Saying | None = None
        self._calls: set[int] = set()
        self._reason = ""

    def feed(self, data: bytes) -> bytes:
        """The events for one or more whole events of a chat completion. Raises RuntimeMalformed."""
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX:
            raise RuntimeMalformed(f"The node's answer is longer than {ANSWER_BYTES_MAX} bytes.")
        out: list[bytes] = []
        for payload in chat.payloads(data):
            if self.is_failed:
                break
            completion = chat.completion(payload)
            if completion.error is not None:
                out.append(self.fail(completion.error))
            else:
                self._begin(completion.model, out)
                self._take(completion, out)
        return b"".join(out)

    def finish(self, now_s: int) -> bytes:
        """What is to be said before the last event; the response is as it ends then."""
        out: list[bytes] = []
        self._begin("", out)
        response = self.response
        reason = _INCOMPLETE.get(self._reason)
        response.status = "completed" if reason is None else "incomplete"
        self._close(response.status, out)
        if not response.output:
            self._say(TEXT, out)
            self._close(response.status, out)
        if reason is None:
            response.completed_at = now_s
        else:
            response.incomplete_details = IncompleteDetails(reason)
        return b"".join(out)

    def last(self) -> bytes:
        """The last event."""
        return self._events.event(f"response.{self.response.status}", response=self.response)

    def fail(self, error: ErrorBody) -> bytes:
        """The end of a stream that cannot go on: an `error`, and the response as far as it came.

        It is not kept.
        """
        if self.is_failed:
            return b""
        out: list[bytes] = []
        self._begin("", out)
        self.is_failed = True
        if self._saying is not None:
            self._saying.settle("incomplete")
        self.response.status = "failed"
        self.response.store = False
        self.response.error = ResponseError(_CODES.get(error.type, "server_error"), error.message)
        said = {"code": error.code, "message": error.message, "param": error.param}
        # OpenAI's own programs look for it in either place.
        out.append(self._events.event("error", error={"type": error.type, **said}, **said))
        out.append(self.last())
        return b"".join(out)

    def take(self, body: bytes, now_s: int) -> Response:
        """The response of a whole answer. Raises RuntimeMalformed for what is none."""
        completion = chat.completion(body)
        if not completion.choices or completion.choices[0].message is None:
            raise RuntimeMalformed("The node answered something that is no chat completion.")
        self._begin(completion.model, [])
        self._take(completion, [])
        self.finish(now_s)
        return self.response

    def _begin(self, model: str, out: list[bytes]) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        self.response.model = model or self.response.model
        out += (
            self._events.event(name, response=self.response)
            for name in ("response.created", "response.in_progress")
        )

    def _take(self, completion: chat.Completion, out: list[bytes]) -> None:
        if completion.usage is not None:
            self.response.usage = _usage(completion.usage)
        for choice in completion.choices:
            said = choice.delta or choice.message
            if said is not None:
                if said.reasoning_content:
                    out.append(self._say(self._thoughts, out).add(said.reasoning_content))
                if said.content:
                    logprobs = _logprobs(choice.logprobs) if choice.logprobs else ()
                    out.append(self._say(TEXT, out).add(said.content, logprobs))
                if said.refusal:
                    out.append(self._say(REFUSAL, out).add(said.refusal))
                for place, call in enumerate(said.tool_calls or ()):
                    self._call(call, place if call.index is None else call.index, out)
            if choice.finish_reason:
                self._reason = choice.finish_reason
                is_cut = choice.finish_reason in _INCOMPLETE
                self._close("incomplete" if is_cut else "completed", out)

    def _say(self, kind: Kind, out: list[bytes]) -> Saying:
        """The item of this kind that is being said; a new one where another is."""
        saying = self._saying
        if saying is None or saying.kind is not kind:
            saying = self._next(kind, item_of(kind, self._new_id(kind)), out)
        return saying

    def _call(self, call: chat.Call, number: int, out: list[bytes]) -> None:
        function, saying = call.function or chat.Function(), self._saying
        if saying is None or saying.kind is not CALL or saying.number != number:
            if number in self._calls or not function.name:
                raise RuntimeMalformed("The node sent a piece of a call that is not under way.")
            self._calls.add(number)
            item_id = self._new_id(CALL)
            call_id = call.id or item_id.replace("fc_", "call_", 1)
            item = FunctionCall(id=item_id, call_id=call_id, name=function.name)
            saying = self._next(CALL, item, out, number)
        if function.arguments:
            out.append(saying.add(function.arguments))

    def _next(self, kind: Kind, item: OutputItem, out: list[bytes], number: int = -1) -> Saying:
        self._close("completed", out)
        output = self.response.output
        saying = self._saying = Saying(kind, item, self._events, len(output), number)
        output.append(item)
        out.append(saying.begin())
        return saying

    def _new_id(self, kind: Kind) -> str:
        """Of the next item: it tells the response that holds it."""
        return f"{kind.id_start}_{self._ids}{len(self.response.output):04x}"

    def _close(self, status: str, out: list[bytes]) -> None:
        if self._saying is not None:
            out.append(self._saying.end(status))
            self._saying = None


def _logprobs(given: chat.Logprobs | None) -> Sequence[LogprobSaid]:
    if given is None or not given.content:
        return ()
    return [
        LogprobSaid(
            token=one.token,
            bytes=_bytes_of(one),
            logprob=one.logprob,
            top_logprobs=[
                TopLogprobSaid(top.token, _bytes_of(top), top.logprob) for top in one.top_logprobs
            ],
        )
        for one in given.content
    ]


def _bytes_of(one: chat.TopLogprob) -> list[int]:
    return list(one.token.encode()) if one.bytes is None else one.bytes


def _usage(counts: chat.Counts) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=counts.prompt_tokens,
        input_tokens_details=InputDetails(counts.cached),
        output_tokens=counts.completion_tokens,
        output_tokens_details=OutputDetails(counts.reasoning),
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
    )
