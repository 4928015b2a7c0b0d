"""Tickets: one word, back and forth, and a reason when it is damaged."""

from __future__ import annotations

import base64
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.ticket import ADDRESSES_MAX, Ticket, TicketMalformed

tickets = st.builds(
    Ticket,
    node=st.binary(min_size=32, max_size=32).map(bytes.hex),
    addresses=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8),
        st.lists(st.text(max_size=40), max_size=4).map(tuple),
        max_size=4,
    ),
    invite=st.binary(max_size=300),
)
TICKET = Ticket(node="ab" * 32, addresses={"iroh": ("192.168.1.5:4433", "127.0.0.1:4433")})


def written(version: int, body: object) -> str:
    payload = bytes((version,)) + msgspec.msgpack.encode(body)
    word = base64.b32encode(payload + hashlib.sha256(payload).digest()[:4]).decode()
    return "helexa" + word.rstrip("=").lower()


@given(tickets)
def test_a_ticket_reads_as_it_was_written(ticket):
    assert Ticket.parse(str(ticket)) == ticket


@given(tickets)
def test_a_ticket_is_one_word_that_survives_being_copied(ticket):
    word = str(ticket)
    assert word.isalnum()
    assert word == word.lower()
    assert Ticket.parse(f"  {word.upper()}\n") == ticket


@given(tickets, st.data())
def test_a_ticket_with_one_wrong_letter_is_refused(ticket, data):
    word = str(ticket)
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567").filter(word[at].__ne__))
    with pytest.raises(TicketMalformed):
        Ticket.parse(word[:at] + letter + word[at + 1 :])


@given(tickets, st.data())
def test_a_ticket_cut_anywhere_is_refused(ticket, data):
    word = str(ticket)
    with pytest.raises(TicketMalformed):
        Ticket.parse(word[: data.draw(st.integers(0, len(word) - 1))])


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    for candidate in (text, "helexa" + text):
        with pytest.raises(TicketMalformed):
            Ticket.parse(candidate)


@given(st.binary(max_size=200))
def test_any_content_with_a_good_checksum_is_read_or_refused(content):
    payload = b"\x01" + content
    word = base64.b32encode(payload + hashlib.sha256(payload).digest()[:4]).decode()
    try:
        ticket = Ticket.parse("helexa" + word.rstrip("=").lower())
    except TicketMalformed:
        return
    assert len(ticket.node) == 64


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with 'helexa'"),
        ("https://example.org", "begins with 'helexa'"),
        (str(TICKET)[:-5], "cut short"),
        (str(TICKET)[:8], "cut short"),
        (str(TICKET).replace("a", "b"), "checksum|begins with"),
        (str(TICKET) + "!", "holds '!'"),
        ("helexa" + "a" * 5000, "longer than"),
        (written(2, {"n": b"", "a": {}}), "version 2; this build reads version 1: update"),
        (written(1, {"n": b"short", "a": {}}), "5 bytes instead of 32"),
        (written(1, {"a": {}}), "not understood"),
        (
            written(1, {"n": bytes(32), "a": {"iroh": ["x"] * (ADDRESSES_MAX + 1)}}),
            "not understood",
        ),
    ],
)
def test_the_refusal_says_what_is_wrong(text, reason):
    with pytest.raises(TicketMalformed, match=reason):
        Ticket.parse(text)


def test_a_ticket_from_before_there_were_invites_still_reads():
    """Printed by an earlier build; it is on somebody's notes."""
    word = (
        "helexaagbkc3weecv2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xilbqgsgs4tpnc"
        "jlamjzgixdcnryfyys4nj2gq2dgm5ogezdolrqfyyc4mj2gq2dgmzipepf6"
    )
    old = Ticket(node="ab" * 32, addresses={"iroh": ("192.168.1.5:4433", "127.0.0.1:4433")})
    assert Ticket.parse(word) == old
    assert str(old) == word


def test_a_ticket_with_an_invite_is_read_by_those_who_know_of_none():
    """The invite is one more field of the body, which an older reader skips."""
    word = str(Ticket(node="ab" * 32, addresses={"iroh": ("x:1",)}, invite=b"sealed"))
    digits = word.removeprefix("helexa").upper()
    data = base64.b32decode(digits + "=" * (-len(digits) % 8))
    assert data[0] == 1
    assert msgspec.msgpack.decode(data[1:-4]) == {
        "n": bytes.fromhex("ab" * 32),
        "a": {"iroh": ["x:1"]},
        "i": b"sealed",
    }


def test_an_invite_that_is_too_long_is_refused():
    body = {"n": bytes(32), "a": {}, "i": bytes(1_025)}
    with pytest.raises(TicketMalformed, match="not understood"):
        Ticket.parse(written(1, body))


def test_a_field_from_a_newer_build_is_skipped():
    word = written(1, {"n": bytes.fromhex("ab" * 32), "a": {"iroh": ["x:1"]}, "later": [1, 2]})
    assert Ticket.parse(word) == Ticket(node="ab" * 32, addresses={"iroh": ("x:1",)})
