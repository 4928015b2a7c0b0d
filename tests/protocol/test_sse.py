"""Events out of bytes, however the bytes were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol import sse

TEXT = st.text(
    alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=40
).map(str.encode)
EVENT = st.one_of(TEXT.map(sse.event), TEXT.map(sse.comment))


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    borders = draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    return [data[a:b] for a, b in zip([0, *borders], [*borders, len(data)], strict=True)]


@given(st.data(), st.lists(EVENT, max_size=8))
def test_the_cuts_do_not_matter(data: st.DataObject, events: list[bytes]) -> None:
    splitter = sse.Splitter()
    out = [event for piece in data.draw(cut(b"".join(events))) for event in splitter.feed(piece)]
    assert out == events
    assert splitter.rest == b""


@given(st.data(), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
def test_every_line_ending_of_the_standard_ends_an_event(data: st.DataObject, end: bytes) -> None:
    events = [b"data: one" + end, b"data: two" + end]
    splitter = sse.Splitter()
    out = [event for piece in data.draw(cut(b"".join(events))) for event in splitter.feed(piece)]
    assert out == events
    assert [sse.payload(event) for event in out] == [b"one", b"two"]
    assert all(sse.is_whole(event) for event in out)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_no_byte_is_lost_or_made_up(pieces: list[bytes]) -> None:
    splitter = sse.Splitter()
    out = b"".join(event for piece in pieces for event in splitter.feed(piece))
    assert out + splitter.rest == b"".join(pieces)


def test_an_event_without_end_is_refused_at_its_bound() -> None:
    splitter = sse.Splitter(event_bytes_max=100)
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(sse.EventTooLong):
        splitter.feed(b"x" * 10)


def test_a_long_event_in_small_pieces_is_not_searched_again_from_its_start() -> None:
    # A quadratic search would look at 10^11 bytes here and never come back.
    splitter = sse.Splitter()
    for _ in range(150_000):
        assert splitter.feed(b"x" * 64) == []
    assert len(splitter.feed(b"\n\n")[0]) == 150_000 * 64 + 2


def test_a_payload_is_the_data_lines_alone() -> None:
    event = b"id: 7\ndata: one\r\ndata:two\n: a comment\nevent: x\n\n"
    assert sse.payload(event) == b"one\ntwo"
    assert sse.payload(sse.comment(b"keepalive")) == b""
