"""An engine's pieces as OpenAI writes them: chunks of a stream, or one whole answer. Pure."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from .engine import Counts, Piece, Refused, Scores, Tokens, TooLong, Vectors
from .requests import Asked, Ranking
from .text import Growing

Json = dict[str, Any]


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", errors="replace"
    )


class _Choice:
    def __init__(self, index: int, stop: Sequence[str]) -> None:
        self.index = index
        self.growing = Growing(stop)
        self.begun = False
        self.finish = ""
        self.logprobs: list[Mapping[str, Any]] = []
        """Of tokens whose text was not shown yet."""


class Answer:
    """One generation's answer. Fed every piece; says what to send, and when enough was heard."""

    def __init__(self, asked: Asked, model: str, created: int) -> None:
        self.counts: Counts | None = None
        self._asked = asked
        self._chat = asked.request.is_chat
        self._choices = [_Choice(at, asked.request.stop) for at in range(asked.request.n)]
        self._head: Json = {
            "id": asked.request.id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": created,
            "model": model,
        }
        self._whole = [_empty(one.index, chat=self._chat) for one in self._choices]

    @property
    def is_complete(self) -> bool:
        """Whether every choice has come to its end, so that no more need be computed."""
        return all(one.finish for one in self._choices)

    def feed(self, piece: Piece) -> bytes:
        """The events to send; b"" where the answer is to be whole."""
        if piece.counts is not None:
            self.counts = piece.counts
        choice = self._choices[piece.choice]
        if choice.finish:
            return b""
        text = choice.growing.feed(piece.text)
        choice.logprobs.extend(piece.logprobs)
        if choice.growing.stopped:
            choice.finish = "stop"
        elif piece.finish:
            text += choice.growing.end()
            choice.finish = piece.finish
        return self._say(choice, text, piece)

    def end(self) -> bytes:
        """After the last piece: the usage, and [DONE]."""
        left = b"".join(self.feed(Piece(choice=one.index, finish="stop")) for one in self._choices)
        if not self._asked.is_streamed:
            return b""
        if self._asked.wants_usage and self.counts is not None:
            left += event({**self._head, "choices": [], "usage": usage(self.counts)})
        return left + b"data: [DONE]\n\n"

    def whole(self) -> Json:
        """After `end`."""
        head = dict(self._head)
        if self._chat:
            head["object"] = "chat.completion"
        answer: Json = {**head, "choices": self._whole}
        if self.counts is not None:
            answer["usage"] = usage(self.counts)
        return answer

    def _say(self, choice: _Choice, text: str, piece: Piece) -> bytes:
        if not (text or piece.thought or piece.calls or choice.finish):
            return b""
        logprobs, choice.logprobs = choice.logprobs, []
        if not self._asked.is_streamed:
            _add(self._whole[choice.index], text, piece, logprobs, choice.finish, chat=self._chat)
            return b""
        said: Json = {"index": choice.index}
        if self._chat:
            said["delta"] = _delta(choice, text, piece)
        else:
            said["text"] = text
        said["logprobs"] = _logprobs(logprobs, chat=self._chat) if logprobs else None
        said["finish_reason"] = choice.finish or None
        return event({**self._head, "choices": [said]})


def event(content: Json) -> bytes:
    return b"data: " + encoded(content) + b"\n\n"


def usage(counts: Counts) -> Json:
    said: Json = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
    }
    if counts.cached is not None:
        said["prompt_tokens_details"] = {"cached_tokens": counts.cached}
    if counts.reasoning:
        said["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    return said


def refused(error: Refused) -> Json:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    said: Json = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    if isinstance(error, TooLong):
        said.update(n_prompt_tokens=error.tokens, n_ctx=error.tokens_max)
    return {"error": said}


def vectors(found: Vectors, encoding: str, model: str) -> Json:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(one) if encoding == "base64" else list(map(float, one)),
        }
        for index, one in enumerate(found.vectors)
    ]
    counted = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "data": data, "model": model, "usage": counted}


def tokens(read: Sequence[Tokens]) -> Json:
    """Of one text after the other. Bytes are numbers: they need not be whole characters."""
    knows_ids = all(len(one.ids) == one.count for one in read)
    knows_pieces = knows_ids and all(len(one.pieces) == one.count for one in read)
    return {
        "count": sum(one.count for one in read),
        "tokens": [token for one in read for token in one.ids] if knows_ids else [],
        "pieces": [list(piece) for one in read for piece in one.pieces] if knows_pieces else [],
    }


def scores(found: Scores, ranking: Ranking, model: str) -> Json:
    order = sorted(range(len(found.scores)), key=lambda at: (-found.scores[at], at))
    results = []
    for at in order[: ranking.top_n]:
        one: Json = {"index": at, "relevance_score": float(found.scores[at])}
        if ranking.with_documents:
            one["document"] = {"text": ranking.request.documents[at]}
        results.append(one)
    counted = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "results": results, "model": model, "usage": counted}


def _base64(vector: Sequence[float]) -> str:
    # Every machine that engines run on is little-endian, as the wire is.
    return base64.b64encode(array("f", map(float, vector)).tobytes()).decode()


def _empty(index: int, *, chat: bool) -> Json:
    if chat:
        message: Json = {"role": "assistant", "content": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": None}
    return {"index": index, "text": "", "logprobs": None, "finish_reason": None}


def _delta(choice: _Choice, text: str, piece: Piece) -> Json:
    delta: Json = {}
    if not choice.begun:
        delta["role"], choice.begun = "assistant", True
    if text:
        delta["content"] = text
    if piece.thought:
        delta["reasoning_content"] = piece.thought
    if piece.calls:
        delta["tool_calls"] = list(piece.calls)
    return delta


def _add(
    choice: Json,
    text: str,
    piece: Piece,
    logprobs: Sequence[Mapping[str, Any]],
    finish: str,
    *,
    chat: bool,
) -> None:
    if chat:
        _add_message(choice["message"], text, piece)
    else:
        choice["text"] += text
    if logprobs:
        more = _logprobs(logprobs, chat=chat)
        old = choice["logprobs"]
        choice["logprobs"] = {name: old[name] + more[name] for name in more} if old else more
    if finish:
        choice["finish_reason"] = finish


def _add_message(message: Json, text: str, piece: Piece) -> None:
    if text:
        message["content"] = (message["content"] or "") + text
    if piece.thought:
        message["reasoning_content"] = message.get("reasoning_content", "") + piece.thought
    for call in piece.calls:
        _add_call(message.setdefault("tool_calls", []), call)


def _add_call(calls: list[Json], piece: Mapping[str, Any]) -> None:
    while len(calls) <= piece["index"]:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[piece["index"]], piece.get("function", {})
    call["id"] = call["id"] or piece.get("id", "")
    for name in ("name", "arguments"):
        call["function"][name] += function.get(name, "")


def _logprobs(entries: Sequence[Mapping[str, Any]], *, chat: bool) -> Json:
    if chat:
        return {"content": [dict(one) for one in entries]}
    return {
        "tokens": [one["token"] for one in entries],
        "token_logprobs": [one["logprob"] for one in entries],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in one.get("top_logprobs", ())} for one in entries
        ],
    }
