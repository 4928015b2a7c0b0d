"""`created` is one number in all of a stream, and nothing else of an event changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.bench import bench
from tests.neuron.test_serving import ASK, CHAT

from helexa.neuron.serving.moment import Moment
from helexa.testing.fake_runtime import FakeRuntime


def event(created: Any, text: str = "x", *, spaced: bool = False) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}], "created": created, "id": "c"}
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: %s\n\n" % json.dumps(chunk, separators=separators).encode()


def created(events: bytes) -> list[Any]:
    payloads = [one.removeprefix(b"data: ") for one in events.split(b"\n\n") if one]
    return [json.loads(one).get("created") for one in payloads if one != b"[DONE]"]


@pytest.mark.parametrize("spaced", [True, False])
def test_the_first_moment_holds_also_where_events_come_together(spaced: bool) -> None:
    moment = Moment()
    assert created(moment.kept(event(17, spaced=spaced))) == [17]
    together = event(17, spaced=spaced) + event(170, spaced=spaced) + event(8, spaced=spaced)
    assert created(moment.kept(together)) == [17, 17, 17]
    for later in (5, 5, 6, 170, 17):
        assert moment.kept(event(later)) == event(17)
        assert moment.kept(event(later, "a") + event(17)) == event(17, "a") + event(17)


def test_an_event_without_a_moment_stays_without_one() -> None:
    moment = Moment()
    bare = b'data: {"choices":[]}\n\n'
    assert moment.kept(bare) == bare
    moment.kept(event(17))
    assert moment.kept(bare + b"data: [DONE]\n\n") == bare + b"data: [DONE]\n\n"


@given(text=st.text(max_size=20) | st.just('"created":5'), first=st.integers(0, 99))
def test_nothing_else_changes(text: str, first: int) -> None:
    moment = Moment()
    moment.kept(event(first))
    assert moment.kept(event(100, text)) == event(first, text)
    inner = b'data: {"x":{"created":100},"created":100,"choices":[]}\n\n'
    assert moment.kept(inner) == inner


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_reads_one_moment_of_an_engine_that_says_several(
    tmp_path: Any, stream: bool
) -> None:
    said = tmp_path / "says"
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"created":9}\n\n'
    counts = (
        b'data: {"choices":[],"created":9,"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    )
    said.write_bytes(event(7) + event(8) + end + counts + b"data: [DONE]\n\n")
    asked = {**ASK, "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    fake = FakeRuntime(flags={"m": ("--recites", str(said))})
    async with bench(fake, {"m": 1}) as live:
        reply = await live.post(CHAT, asked)
    if not stream:
        assert reply.json["created"] == 7
        return
    assert [one["created"] for one in reply.events if isinstance(one, dict)] == [7, 7, 7, 7]
