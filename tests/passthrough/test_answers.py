"""What a runtime said is what its client reads, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passthrough.chain import Chain, chain
from tests.passthrough.json_texts import TEXTS, spelled

few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ASKED = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true'
DONE = "data: [DONE]\n\n"


@pytest.fixture(scope="module")
def whole() -> Iterator[Chain]:
    with chain() as made:
        yield made


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, str]:
    """Events of an answer, and the one with its usage."""
    events = []
    for _ in range(draw(st.integers(1, 4))):
        text = draw(spelled(draw(TEXTS)))
        more = draw(st.sampled_from(("", ', "x_own": -0.0', ',"logprobs":null')))
        delta = f'"delta":{{"content":{text}}}{more}'
        events.append(f'{{"id":"c","choices":[{{"index":0,{delta}}}],"created":1 }}')
    events.append(
        '{"id":"c","choices":[{"index":0,"delta":{"content":%s}%s}],"created":1 }' % (text, more)  # noqa: UP031
    )
    events.append(
        '{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"created":1}'
    )
    usage = (
        '{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":4,"total_tokens":5}}'
    )
    return "".join(f"data: {one}\n\n" for one in events), f"data: {usage}\n\n"


@few
@given(said=streams(), shows=st.booleans())
def test_a_stream_comes_back_as_it_was_said(
    whole: Chain, said: tuple[str, str], shows: bool
) -> None:
    """But for the counts, which the engine is always asked for and not every client wants."""
    text, usage = said
    whole.says.write_bytes((text + usage + DONE).encode())
    options = b',"stream_options":{"include_usage":true}}' if shows else b"}"
    answer = whole.ask("/v1/chat/completions", ASKED + options)
    assert answer.status == 200
    assert answer.body.decode() == text + (usage if shows else "") + DONE


@few
@given(text=TEXTS)
def test_the_text_of_a_whole_answer_is_the_runtimes(whole: Chain, text: str) -> None:
    event = {
        "id": "c",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}],
    }
    counts = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    said = "".join(f"data: {json.dumps(one)}\n\n" for one in (event, counts)) + DONE
    whole.says.write_bytes(said.encode())
    answer = whole.ask("/v1/chat/completions", ASKED.replace(b"true", b"false") + b"}")
    assert answer.json["choices"][0]["message"]["content"] == text


def test_vectors_come_back_as_they_were_said(whole: Chain) -> None:
    said = (
        b'{ "object":"list","model":"m","x_own":1.0,"data":[{"index":0,"object":"embedding",'
        b'"embedding":[1.0,0.30000000000000004,-0.0,1e-7]}],"usage":{"prompt_tokens":1,'
        b'"total_tokens":1}}'
    )
    whole.says.write_bytes(said)
    answer = whole.ask("/v1/embeddings", b'{"model":"m","input":"hi"}')
    assert answer.body == said
