"""Going on with a broken stream, without an engine: which way, and what is made of answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.continuation import (
    RESUMED_KEY,
    Continuation,
    Delivered,
    DeliveredCall,
    DeliveredChoice,
)
from helexa.protocol.errors import NotContinuable
from helexa.protocol.ids import ModelId
from helexa.runtime import adapters
from helexa.runtime.continuing import asking
from helexa.runtime.continuing.onward import Given, Onward
from helexa.runtime.continuing.replay import Replayed
from helexa.runtime.continuing.voice import Voice
from helexa.runtime.contract import Asking, ChildRequest, ModelFiles, ReplicaSpec

T = TypeVar("T")

# --- replays

VOICE = {"id": "x", "created": 1, "model": "m"}


def event(**choices: Any) -> dict[str, Any]:
    return {"id": "other", "created": 9, "model": "o", "object": "chat.completion.chunk", **choices}


def pieces_of(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return event(choices=[{"index": index, "delta": delta, "finish_reason": finish}])


def call(arguments: str, **first: str) -> dict[str, Any]:
    said = {"index": 0, "function": {"arguments": arguments}}
    if first:
        said = {"index": 0, "id": first["id"], "type": "function"}
        said["function"] = {"name": first["name"], "arguments": arguments}
    return {"tool_calls": [said]}


STREAM = [
    pieces_of({"role": "assistant", "content": None}),
    pieces_of({"reasoning_content": "We "}),
    pieces_of({"reasoning_content": "see"}),
    pieces_of({"content": "It "}),
    pieces_of({"content": "is 🙂"}),
    pieces_of({"content": "."}),
    pieces_of(call("", id="mine", name="lamp")),
    pieces_of(call('{"on"')),
    pieces_of(call(":true}")),
    pieces_of({}, "tool_calls"),
    event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}),
]


def had(stream: Sequence[dict[str, Any]], fingerprint: str = "") -> Delivered:
    content, reasoning, calls, finish = [], [], {}, ""
    for one in stream:
        for piece in one["choices"]:
            delta = piece["delta"]
            content.append(delta.get("content") or "")
            reasoning.append(delta.get("reasoning_content") or "")
            for each in delta.get("tool_calls", ()):
                known = calls.setdefault(each["index"], ["first", "", ""])
                known[1] += each["function"].get("name", "")
                known[2] += each["function"]["arguments"]
            finish = piece["finish_reason"] or finish
    first = DeliveredChoice(
        content=tuple(content),
        reasoning=tuple(reasoning),
        tool_calls=tuple(
            DeliveredCall(index=index, id=of[0], name=of[1], arguments=of[2])
            for index, of in calls.items()
        ),
        finish_reason=finish,
    )
    return Delivered(**VOICE, fingerprint=fingerprint, choices=(first,))


def fed(rewrite: Replayed | Onward, stream: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    said = [made for one in stream for made in rewrite.event(json.dumps(one).encode())]
    return [json.loads(one) for one in (*said, *rewrite.end())]


def whole(stream: Sequence[dict[str, Any]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for one in stream:
        for piece in one["choices"]:
            delta = piece["delta"]
            for name in ("content", "reasoning_content"):
                texts[name] = texts.get(name, "") + (delta.get(name) or "")
            for each in delta.get("tool_calls", ()):
                for name, text in each["function"].items():
                    texts[name] = texts.get(name, "") + text
            texts["finish"] = texts.get("finish", "") + (piece["finish_reason"] or "")
    return texts


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_replay_goes_on_behind_what_was_delivered(cut: int) -> None:
    before = STREAM[:cut]
    rewrite = Replayed(Voice(had(before), is_chat=True), resumed=None)
    after = fed(rewrite, STREAM)
    assert whole([*before, *after]) == whole(STREAM)
    assert all({name: one[name] for name in VOICE} == VOICE for one in after)
    assert not any("role" in piece["delta"] for one in after for piece in one["choices"])
    ids = [each.get("id") for one in after for p in one["choices"]
           for each in p["delta"].get("tool_calls", ())]  # fmt: skip
    # A call that was begun is known by its first id, which comes once.
    assert ids.count("mine") == (1 if cut <= 6 else 0)
    assert after[-1]["usage"][RESUMED_KEY] == min(cut - 1, 8)


@given(st.text("abc🙂", max_size=12), st.data())
def test_a_replay_need_not_come_in_the_same_pieces(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    at = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=4))})
    stream = [pieces_of({"content": text[a:b]}) for a, b in itertools.pairwise(at)]
    delivered = Delivered(**VOICE, choices=(DeliveredChoice(content=(text[:cut],)),))
    after = fed(Replayed(Voice(delivered, is_chat=True), resumed=0), stream)
    assert "".join(p["delta"]["content"] for one in after for p in one["choices"]) == text[cut:]


@pytest.mark.parametrize(
    "stream",
    [
        [pieces_of({"content": "It was"})],
        [pieces_of({"content": "It"}), pieces_of({}, "stop")],
        [pieces_of({"content": "It"})],
        [pieces_of({"content": "It"}), pieces_of(call("{}", id="i", name="n"))],
        [pieces_of({"reasoning_content": "Hm"})],
    ],
)
def test_another_answer_is_noticed_before_any_of_it_is_sent(stream: list[dict[str, Any]]) -> None:
    delivered = Delivered(**VOICE, choices=(DeliveredChoice(content=("It ", "is")),))
    rewrite = Replayed(Voice(delivered, is_chat=True), resumed=None)
    said: list[bytes] = []

    def feed() -> None:
        for one in stream:
            said.extend(rewrite.event(json.dumps(one).encode()))
        rewrite.end()

    with pytest.raises(NotContinuable):
        feed()
    assert said == []


def test_the_first_engines_fingerprint_is_kept_or_there_is_none() -> None:
    stream = [{**pieces_of({"content": "a"}), "system_fingerprint": "own"}]
    for first in ("", "b1"):
        delivered = Delivered(**VOICE, fingerprint=first, choices=())
        (one,) = fed(Replayed(Voice(delivered, is_chat=True), resumed=0), stream)
        assert one.get("system_fingerprint", "") == first


# --- going on by tokens


def said_by_text(*texts: str, finish: str = "stop", used: int = 4) -> list[dict[str, Any]]:
    def one(text: str, reason: str | None = None) -> dict[str, Any]:
        return {"choices": [{"text": text, "index": 0, "finish_reason": reason}]}

    usage = {"prompt_tokens": 9, "completion_tokens": used}
    return [*map(one, texts), {**one("", finish), "usage": usage}]


DELIVERED = Delivered(**VOICE, choices=(DeliveredChoice(content=("It", " is")),))


def test_a_text_becomes_the_chunks_of_a_chat_with_the_counts_of_one_engine() -> None:
    how = Given(prompt=7, resumed=2, given=2)
    after = fed(Onward(Voice(DELIVERED, is_chat=True), how, []), said_by_text(" so", ".", used=3))
    deltas = [piece["delta"] for one in after for piece in one["choices"]]
    assert deltas == [{"content": " so"}, {"content": "."}, {}]
    assert [one["object"] for one in after] == ["chat.completion.chunk"] * 4
    assert after[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0},
        RESUMED_KEY: 2,
    }


def test_what_has_to_come_again_comes_first_and_is_not_shown() -> None:
    how = Given(prompt=7, resumed=2, given=1, again=" is")
    after = fed(Onward(Voice(DELIVERED, is_chat=True), how, []), said_by_text(" i", "s not", "."))
    texts = [piece["delta"].get("content") for one in after for piece in one["choices"]]
    assert texts == [" not", ".", None]
    for other in (said_by_text(" was"), said_by_text(" i")):
        with pytest.raises(NotContinuable):
            fed(Onward(Voice(DELIVERED, is_chat=True), how, []), other)


def test_an_answer_that_is_over_ends_and_does_not_run_on() -> None:
    how = Given(prompt=7, resumed=2, given=2, ends="length")
    stream = said_by_text(" so", used=1)
    after = fed(Onward(Voice(DELIVERED, is_chat=True), how, []), stream)
    assert [p["finish_reason"] for one in after for p in one["choices"]] == ["length"]
    assert after[-1]["usage"]["completion_tokens"] == 2
    done = Given(prompt=7, resumed=2, given=2, ends="length", is_finished=True)
    (usage,) = fed(Onward(Voice(DELIVERED, is_chat=True), done, []), stream)
    assert usage["choices"] == []


def test_a_stop_string_that_spans_the_seam_ends_the_chat() -> None:
    how = Given(prompt=7, resumed=2, given=2)
    stream = said_by_text(" ", "so", " and on", finish="length")
    after = fed(Onward(Voice(DELIVERED, is_chat=True), how, ["is s"]), stream)
    pieces = [(p["delta"].get("content"), p["finish_reason"]) for one in after
              for p in one["choices"]]  # fmt: skip
    assert pieces == [(None, "stop")]


# --- what an engine without tokens is asked


def driven(asking: Asking[T], answer: Callable[[ChildRequest], Any]) -> T:
    """What comes of questions that are answered like this."""
    try:
        question = next(asking)
        while True:
            question = asking.send(json.dumps(answer(question)).encode())
    except StopIteration as end:
        found: T = end.value
        return found


def test_an_engine_without_tokens_replays_and_then_goes_on_with_the_text() -> None:
    adapter = adapters.load("mistral_rs")
    files = ModelFiles(
        model=ModelId("m"),
        weights=Path("/srv/m.gguf"),
        architecture="qwen3",
        chat_template="{{ messages }}",
    )
    request = {"model": "m", "messages": [{"role": "user", "content": "q"}], "temperature": 0,
               "stream": True, "max_tokens": 9}  # fmt: skip
    body = json.dumps(request).encode()
    wanted = Continuation(
        path="/v1/chat/completions",
        model="m",
        digest="d",
        delivered=DELIVERED,
        request=msgspec.Raw(body),
    )
    spec = ReplicaSpec(files=files, context_tokens=64, slots=1)
    continuing = asking.Continuing(wanted, body, adapter, spec)
    one = {"count": 1, "tokens": [7], "pieces": []}
    replay, text = (
        json.loads(driven(attempt, lambda _: one).body) for attempt in continuing.attempts()
    )
    assert replay["messages"] == request["messages"]
    assert replay["max_tokens"] == 9
    assert text["messages"][-1] == {"role": "assistant", "content": "It is"}
    assert text["continue_final_message"] is True
    assert text["max_tokens"] == 8


# --- vLLM, whose tokenizer tells no text of a single token

TEXT = {(1,): "It", (2,): " is", (1, 2): "It is", (3,): "It  is"}


def vllm(question: ChildRequest) -> Any:
    """A tokenizer of two words."""
    body = json.loads(question.body)
    if question.path == "/detokenize":
        return {"prompt": TEXT[tuple(body["tokens"])]}
    assert question.path == "/tokenize"
    if "messages" in body:
        assert "temperature" not in body
        return {"count": 3, "max_model_len": 64, "tokens": [7, 8, 9]}
    assert body["add_special_tokens"] is False
    ids = next(ids for ids, text in TEXT.items() if text == body["prompt"])
    return {"count": len(ids), "max_model_len": 64, "tokens": ids}


@pytest.mark.parametrize("stop", [None, ["zz"]])
def test_vllm_is_given_the_tokens_of_the_whole_text(stop: list[str] | None) -> None:
    adapter = adapters.load("vllm")
    files = ModelFiles(
        model=ModelId("m"),
        weights=Path("/srv/m"),
        format="safetensors",
        chat_template="{{ messages }}",
    )
    request = {"model": "m", "messages": [{"role": "user", "content": "q"}], "temperature": 0,
               "stream": True, "max_completion_tokens": 9, "stop": stop}  # fmt: skip
    wanted = Continuation(
        path="/v1/chat/completions",
        model="m",
        digest="d",
        delivered=DELIVERED,
        request=msgspec.Raw(b"{}"),
    )
    spec = ReplicaSpec(files=files, context_tokens=64, slots=1)
    continuing = asking.Continuing(wanted, json.dumps(request).encode(), adapter, spec)
    first = driven(next(continuing.attempts()), vllm)
    asked = json.loads(first.body)
    assert first.path == "/v1/completions"
    assert asked["prompt"] == [7, 8, 9, 1, 2]
    assert asked["max_tokens"] == 7
    assert "messages" not in asked
    assert asked.get("stop") == stop
    assert continuing.resumed == 2
