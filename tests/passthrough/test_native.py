"""What a client wrote is what the runtime reads, to the byte: nothing added, changed or cut.

The exceptions are those of docs/passthrough.md, and this is where they are all named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passthrough.chain import Chain, chain
from tests.passthrough.json_texts import (
    TEXTS,
    Members,
    array,
    last_of_each,
    members_of,
    spelled,
    values,
    written,
)

OURS = {"stream", "stream_options", "max_tokens"}
"""Of every request for text: how an answer comes, that it is counted, and where it ends."""
few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole() -> Iterator[Chain]:
    with chain() as made:
        yield made


@st.composite
def bodies(draw: st.DrawFn, prompt: st.SearchStrategy[Members]) -> str:
    """A body around a prompt: engines' own fields between the known ones, in any order."""
    own = st.tuples(st.text("abcdefgh", min_size=3, max_size=9).map("x_{}".format), values())
    members = [
        ("model", '"m"'),
        *draw(prompt),
        *draw(st.lists(own, max_size=3)),
    ]
    return draw(written(draw(st.permutations(members))))


@st.composite
def chats(draw: st.DrawFn) -> Members:
    messages = []
    for _ in range(draw(st.integers(1, 3))):
        role = draw(st.sampled_from(("system", "user", "assistant", "developer")))
        said = draw(spelled(draw(TEXTS)))
        if draw(st.booleans()):
            part = draw(written([("type", '"text"'), ("text", said)]))
            said = draw(array([part]))
        members = [("role", f'"{role}"'), ("content", said)]
        if draw(st.booleans()):
            members.append(("x_more", draw(values())))
        messages.append(draw(written(draw(st.permutations(members)))))
    return [("messages", draw(array(messages)))]


KNOWN: Members = [
    ("temperature", "0.70"),
    ("top_p", "1"),
    ("seed", "7"),
    ("stop", '["\\u0041", "B"]'),
    ("user", '"somebody"'),
    ("tools", '[{"type":"function","function":{"parameters":{"type":"object"},"name":"f"}} ]'),
    ("tool_choice", '"auto"'),
    ("parallel_tool_calls", "true"),
    ("frequency_penalty", "0.50"),
    ("logit_bias", '{"5": -1.50}'),
]
IDLE = {"user", "parallel_tool_calls"}
"""Of these, what changes no answer, or may not, and then does not go on."""


@st.composite
def with_known(draw: st.DrawFn) -> Members:
    return [*draw(chats()), *draw(st.lists(st.sampled_from(KNOWN), unique=True))]


@st.composite
def prompts(draw: st.DrawFn) -> Members:
    return [("prompt", draw(spelled(draw(TEXTS))))]


def assert_passed_on(body: str, received: str, ours: set[str]) -> None:
    sent, arrived = members_of(body), members_of(received)
    asked = {name: value for name, value in last_of_each(sent).items() if name not in ours}
    found = {name: value for name, value in last_of_each(arrived).items() if name not in ours}
    assert found == asked
    order = [name for name, _ in arrived if name not in ours]
    assert order == [name for name in dict.fromkeys(name for name, _ in sent) if name not in ours]


@few
@given(body=bodies(with_known()), stream=st.booleans())
def test_a_chat_arrives_as_it_was_written(whole: Chain, body: str, stream: bool) -> None:
    body = body.replace("{", '{"stream": true,', 1) if stream else body
    received = whole.received("/v1/chat/completions", body.encode())
    assert_passed_on(body, received, OURS | IDLE)


@few
@given(body=bodies(prompts()))
def test_a_text_arrives_as_it_was_written(whole: Chain, body: str) -> None:
    assert_passed_on(body, whole.received("/v1/completions", body.encode()), OURS)


VECTORS = (
    b'{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}]}'
)


@few
@given(body=bodies(TEXTS.flatmap(spelled).map(lambda text: [("input", text)])))
def test_a_text_for_a_vector_arrives_as_it_was_written(whole: Chain, body: str) -> None:
    assert whole.received("/v1/embeddings", body.encode(), VECTORS) == body


RANKING = b'{"model":"m","results":[{"index":0,"relevance_score":0.5}]}'


@st.composite
def documents(draw: st.DrawFn) -> Members:
    query, document = draw(spelled(draw(TEXTS))), draw(spelled(draw(TEXTS)))
    return [("query", query), ("documents", draw(array([document])))]


@few
@given(body=bodies(documents()))
def test_documents_arrive_as_they_were_written(whole: Chain, body: str) -> None:
    received = whole.received("/v1/rerank", body.encode(), RANKING)
    assert_passed_on(body, received, {"documents"})
    # A document may be an object around its text, which no engine knows.
    assert json.loads(received)["documents"] == json.loads(body)["documents"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e-400"])
def test_a_number_that_is_none_here_arrives_as_it_was_written(whole: Chain, number: str) -> None:
    body = f'{{"model":"m","messages":[{{"role":"user","content":"x"}}],"x_limit":{number}}}'
    assert_passed_on(body, whole.received("/v1/chat/completions", body.encode()), OURS)


def test_a_prompt_of_a_megabyte_arrives_whole(whole: Chain) -> None:
    text = "0123456789 ü\\n" * 80_000
    body = f'{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}'
    assert_passed_on(body, whole.received("/v1/chat/completions", body.encode()), OURS)
