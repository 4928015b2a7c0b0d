"""Frames: everything sent is read back, everything else is refused, old bytes stay readable."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.examples import EXAMPLES
from tests.protocol.shapes import MESSAGES, any_message, messages_of

from helexa.protocol.frames import (
    FRAME_BYTES_MAX,
    HANDSHAKE_VERSION,
    LENGTH_BYTES,
    Frame,
    FrameRejected,
    TagUnknown,
    decode,
    encode,
    length_of,
)
from helexa.protocol.messages import Goodbye, Hello, Ok, Role
from helexa.protocol.version import VERSION, VERSION_MIN, VersionRange, agree

GOLDEN = Path(__file__).parent / "golden"
IDS = st.integers(0, 2**63)
VERSIONS = range(VERSION_MIN, VERSION + 1)


def tag_of(message):
    return message.__struct_config__.tag


def raw(*parts, version=VERSION):
    return bytes((version,)) + msgspec.msgpack.encode(parts)


@pytest.mark.parametrize("cls", MESSAGES, ids=tag_of)
def test_every_message_reads_as_it_was_sent(cls):
    @given(messages_of(cls), IDS, IDS)
    def holds(message, number, re):
        frame = Frame(number, re, message)
        data = encode(frame)
        assert length_of(data[:LENGTH_BYTES]) == len(data) - LENGTH_BYTES
        assert decode(data[LENGTH_BYTES:]) == frame
        assert decode(memoryview(data)[LENGTH_BYTES:]) == frame

    holds()


@given(st.binary(max_size=400), st.sampled_from([HANDSHAKE_VERSION, *VERSIONS]))
def test_any_bytes_are_read_or_refused(data, version):
    for payload in (data, bytes((version,)) + data):
        try:
            frame = decode(payload, version=version)
        except (FrameRejected, TagUnknown):
            continue
        assert isinstance(frame.body, MESSAGES)


@given(any_message(), st.data())
def test_a_frame_with_one_byte_changed_is_read_or_refused(message, data):
    payload = bytearray(encode(Frame(1, 0, message))[LENGTH_BYTES:])
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = decode(bytes(payload))
    except (FrameRejected, TagUnknown):
        return
    assert isinstance(frame.body, MESSAGES)


@given(any_message(), st.data())
def test_a_frame_that_was_cut_is_refused(message, data):
    payload = encode(Frame(1, 0, message))[LENGTH_BYTES:]
    with pytest.raises(FrameRejected):
        decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


@pytest.mark.parametrize("version", VERSIONS)
def test_there_is_an_example_of_every_message_kept_for_every_version(version):
    kept = {path.stem for path in (GOLDEN / f"v{version}").glob("*.hex")}
    assert {tag_of(example) for example in EXAMPLES} == {tag_of(cls) for cls in MESSAGES}
    missing = {tag_of(cls) for cls in MESSAGES} - kept
    assert not missing, f"run `python -m tests.protocol.keep_golden` and commit: {missing}"


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("v*/*.hex")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_bytes_of_a_released_version_still_read_the_same(path):
    """A failure means that nodes in the field are no longer understood: never edit a kept file."""
    data = bytes.fromhex(path.read_text())
    version = HANDSHAKE_VERSION if path.stem == "hello" else int(path.parent.name.removeprefix("v"))
    frame = decode(data[LENGTH_BYTES:], version=version)
    (example,) = (each for each in EXAMPLES if tag_of(each) == path.stem)
    assert frame == Frame(7, 3, example)


@given(any_message(), st.text("xyz_", min_size=1), st.integers() | st.text() | st.lists(st.none()))
def test_a_field_of_a_newer_build_is_skipped(message, field, value):
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    value = value if not isinstance(value, int) else value % 1000
    assert decode(raw(4, 0, {**body, f"new_{field}": value})) == Frame(4, 0, message)


def test_an_element_of_a_newer_build_after_the_body_is_skipped():
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(Ok()))
    assert decode(raw(4, 0, body, "later")) == Frame(4, 0, Ok())


@given(st.text(min_size=1, max_size=80), IDS, IDS)
def test_an_unknown_tag_says_which_frame_and_what_it_answers(tag, number, re):
    with pytest.raises(TagUnknown) as unknown:
        decode(raw(number, re, {"t": f"?{tag}", "x": 1}))
    assert (unknown.value.frame_id, unknown.value.re) == (number, re)
    assert unknown.value.tag == f"?{tag}"[:64]


@pytest.mark.parametrize(
    "payload",
    [
        raw(1, 0, {"t": "ok"}, version=VERSION + 1),
        raw(1, 0, {"t": "ok"}, version=HANDSHAKE_VERSION),
        raw(1, 0, {}),
        raw(1, 0, {"t": 7}),
        raw(1, 0, [1, 2]),
        raw("one", 0, {"t": "ok"}),
        raw(1, 0),
        raw(1, 0, {"t": "goodbye", "reason": 7}),
        raw(1, 0, {"t": "hello"}),
        raw(1, 0, {"t": "hello", "role": "judge", "lowest": 1, "highest": 1}),
        bytes((VERSION,)) + b"\x91" * 5000,
        bytes((VERSION,)),
        b"",
    ],
)
def test_a_frame_that_is_wrong_in_one_thing_is_refused(payload):
    with pytest.raises(FrameRejected):
        decode(payload)


def test_the_refusal_of_a_version_names_those_spoken_here():
    with pytest.raises(FrameRejected, match=f"version 9 .*{VERSION_MIN}..{VERSION}"):
        decode(raw(1, 0, {"t": "ok"}, version=9))


def test_the_handshake_has_its_own_version():
    hello = Frame(1, 0, Hello(role=Role.NEURON, lowest=1, highest=1))
    data = encode(hello, version=HANDSHAKE_VERSION)
    assert decode(data[LENGTH_BYTES:], version=HANDSHAKE_VERSION) == hello


@given(st.integers(0, 2**32 - 1))
def test_only_lengths_that_a_frame_can_have_are_accepted(length):
    prefix = length.to_bytes(LENGTH_BYTES, "big")
    if 2 <= length <= FRAME_BYTES_MAX:
        assert length_of(prefix) == length
    else:
        with pytest.raises(FrameRejected, match=f"frame of {length} bytes"):
            length_of(prefix)


def test_a_frame_over_the_limit_is_the_senders_error():
    fits = Goodbye(reason="x" * (FRAME_BYTES_MAX - 30))
    assert len(encode(Frame(1, 0, fits))) <= FRAME_BYTES_MAX + LENGTH_BYTES
    with pytest.raises(ValueError, match="at most"):
        encode(Frame(1, 0, Goodbye(reason="x" * FRAME_BYTES_MAX)))


ranges = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(
    lambda pair: VersionRange(min(pair), max(pair))
)


@given(ranges, ranges)
def test_two_nodes_agree_on_the_highest_version_of_both(ours, theirs):
    version = agree(ours, theirs)
    common = set(range(ours.lowest, ours.highest + 1)) & set(
        range(theirs.lowest, theirs.highest + 1)
    )
    assert version == (max(common) if common else None)
    assert version == agree(theirs, ours)
