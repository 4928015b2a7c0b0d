"""Records: what a node said of itself, within bounds, in force, and never an older one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.operator import CLOCK_SLACK_S, OperatorKey, certify, succeed
from helexa.mesh.operators.revocation import RevocationBook, revoke
from helexa.mesh.statements.records import (
    LIFETIME_MAX_S,
    SEQUENCE_MAX,
    Peek,
    Reason,
    RecordRejected,
    fitted,
    open_record,
    peek,
    sign_record,
    supersedes,
)
from helexa.mesh.statements.sealed import seal
from helexa.protocol.messages import Role
from helexa.protocol.records import OFFERS_PER_RECORD_MAX, RECORD_BYTES_MAX, Offer, Record
from helexa.protocol.work import Price

NOW, DAY = 1_800_000_000, 86_400
KEY, OTHER = NodeKey.from_secret(b"k" * 32), NodeKey.from_secret(b"o" * 32)
OPERATOR, HEIR = (OperatorKey(NodeKey.from_secret(bytes((n,)) * 32)) for n in (1, 2))
DIGEST = "sha256:" + "ab" * 32
OFFER = Offer(model="org/model", digest=DIGEST, slots=4, free=1, tokens_per_s=41.5)


def certified(operator=OPERATOR, node=KEY.node_id, roles=(Role.CORTEX,), **changes):
    return certify(operator, node, roles, **{"now_s": NOW, "days": 30} | changes)


def record(**changes):
    fields = {
        "node": KEY.node_id,
        "sequence": 7,
        "issued_s": NOW,
        "expires_s": NOW + 3_600,
        "name": "attic",
        "region": "eu",
        "addresses": {"tls": ("192.0.2.1:4433", "[2001:db8::1]:4433")},
        "offers": (OFFER,),
    }
    return Record(**fields | changes)


def signed(**changes):
    """A record that `sign_record` might refuse, signed all the same."""
    return seal(KEY.sign, record(**changes))


def opened(blob, now_s=NOW, book=None):
    return open_record(blob, now_s=now_s, book=RevocationBook() if book is None else book)


def reason(blob, **settings):
    with pytest.raises(RecordRejected) as rejected:
        opened(blob, **settings)
    return rejected.value.reason


def test_a_record_reads_as_it_was_signed():
    mine = sign_record(KEY.sign, record(certificate=certified()))
    theirs = opened(mine.blob)
    assert theirs == mine
    assert theirs.record == record(certificate=theirs.record.certificate)
    assert (theirs.node, theirs.sequence) == (KEY.node_id, 7)
    assert theirs.operator == OPERATOR.operator_id


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=64)
offers = st.builds(
    Offer,
    model=st.from_regex(r"[a-z]{1,8}(/[a-z0-9]{1,8})?", fullmatch=True),
    free=st.integers(0, 2**53),
    ready=st.booleans(),
    tokens_per_s=st.floats(0, 1e9),
    price=st.builds(Price, completion=st.integers(0, 2**53)),
)


@given(
    name=texts,
    region=texts,
    load=st.floats(0, 1),
    offers=st.lists(offers, max_size=9, unique_by=lambda offer: offer.model).map(tuple),
    sequence=st.integers(0, SEQUENCE_MAX),
)
def test_any_record_within_the_bounds_makes_the_round_trip(**changes):
    mine = sign_record(KEY.sign, record(**changes))
    assert opened(mine.blob) == mine
    assert peek(mine.blob) == Peek(KEY.node_id, changes["sequence"])


@given(st.data())
def test_a_record_with_any_bit_flipped_is_rejected(data):
    blob = bytearray(signed())
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordRejected):
        opened(bytes(blob))


@given(st.binary(max_size=500))
def test_any_bytes_are_rejected(blob):
    for candidate in (blob, bytes(64) + blob):
        assert reason(candidate) in (Reason.MALFORMED, Reason.SIGNATURE)
        with pytest.raises(RecordRejected):
            peek(candidate)


def test_a_record_can_only_be_about_its_signer():
    about_other = seal(KEY.sign, record(node=OTHER.node_id))
    assert reason(about_other) is Reason.SIGNATURE


def test_a_field_from_a_newer_build_is_passed_on_untouched():
    payload = msgspec.msgpack.encode(msgspec.to_builtins(record()) | {"later": [1, 2]})
    blob = KEY.sign(b"helexa record 1\0" + payload) + payload
    assert opened(blob).blob == blob
    assert opened(blob).record == record()


# --- what is rejected, and as what


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"node": "me"}, Reason.MALFORMED),
        ({"node": "AB" * 32}, Reason.MALFORMED),
        ({"sequence": -1}, Reason.MALFORMED),
        ({"sequence": SEQUENCE_MAX + 1}, Reason.MALFORMED),
        ({"sequence": 2**64 - 1}, Reason.MALFORMED),
        ({"issued_s": -1}, Reason.MALFORMED),
        ({"expires_s": 2**60}, Reason.MALFORMED),
        ({"lowest": 2, "highest": 1}, Reason.MALFORMED),
        ({"load": float("nan")}, Reason.MALFORMED),
        ({"load": float("inf")}, Reason.MALFORMED),
        ({"load": -0.1}, Reason.MALFORMED),
        ({"load": 1.1}, Reason.MALFORMED),
        ({"expires_s": NOW}, Reason.LIFETIME),
        ({"expires_s": NOW - 1}, Reason.LIFETIME),
        ({"expires_s": NOW + LIFETIME_MAX_S + 1}, Reason.LIFETIME),
        ({"issued_s": NOW + CLOCK_SLACK_S + 1}, Reason.FUTURE),
        ({"issued_s": NOW - 3_600, "expires_s": NOW}, Reason.EXPIRED),
        ({"name": "n" * 65}, Reason.BAD_TEXT),
        ({"name": "two\nlines"}, Reason.BAD_TEXT),
        ({"name": "\x1b]0;owned\x07"}, Reason.BAD_TEXT),
        ({"name": "right\u202etfel"}, Reason.BAD_TEXT),
        ({"region": "r" * 65}, Reason.BAD_TEXT),
        ({"agent": "a" * 65}, Reason.BAD_TEXT),
        ({"instance": "\x00"}, Reason.BAD_TEXT),
        ({"roles": ("gateway",) * 9}, Reason.BAD_TEXT),
        ({"roles": ("r" * 33,)}, Reason.BAD_TEXT),
        ({"certificate": b"x"}, Reason.CERTIFICATE),
        ({"certificate": bytes(5_000)}, Reason.CERTIFICATE),
        ({"revocations": b"x"}, Reason.MALFORMED),
    ],
)
def test_what_is_out_of_bounds_is_rejected_for_its_reason(changes, expected):
    rest = {"issued_s": NOW, "expires_s": changes.get("issued_s", NOW) + 3_600}
    if changes.get("issued_s", NOW) < 0:
        rest["expires_s"] = NOW
    assert reason(signed(**rest | changes)) is expected


@pytest.mark.parametrize(
    "addresses",
    [
        {"tls": ("nowhere",)},
        {"tls": ("example.org:4433",)},
        {"tls": ("192.0.2.1",)},
        {"tls": ("192.0.2.1:0",)},
        {"tls": ("192.0.2.1:65536",)},
        {"tls": ("192.0.2.1:-1",)},
        {"tls": ("0.0.0.0:1",)},
        {"tls": ("[::]:1",)},
        {"tls": ("224.0.0.251:5353",)},
        {"tls": ("[ff02::1]:1",)},
        {"tls": ("255.255.255.255:1",)},
        {"tls": ("unix:/run/socket",)},
        {"tls": ("192.0.2.1:44\n33",)},
        {"tls": ("https://relay example/",)},
        {"tls": ("https://",)},
        {"tls": ("https://[::1:80/",)},
        {"tls": ("https://relay.example/" + "x" * 255,)},
        {"tls": ("192.0.2.1:1",) * 17},
        {"T" * 3: ()},
        {"": ()},
        {"t" * 17: ()},
        {f"t{number}": () for number in range(9)},
    ],
)
def test_an_address_that_nobody_can_dial_is_rejected(addresses):
    assert reason(signed(addresses=addresses)) is Reason.BAD_ADDRESS


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "10.0.0.9:65535", "[fe80::1]:7", "https://relay.example/", "http://[::1]:80/x"],
)
def test_an_address_that_a_transport_writes_is_taken(address):
    assert opened(signed(addresses={"iroh": (address,)})).record.addresses["iroh"] == (address,)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "../../etc"}, Reason.BAD_TEXT),
        ({"model": ""}, Reason.BAD_TEXT),
        ({"model": "m" * 201}, Reason.BAD_TEXT),
        ({"digest": "sha256:short"}, Reason.BAD_TEXT),
        ({"digest": "x" * 5_000}, Reason.BAD_TEXT),
        ({"context_tokens": -1}, Reason.MALFORMED),
        ({"slots": 2**54}, Reason.MALFORMED),
        ({"free": -1}, Reason.MALFORMED),
        ({"price": Price(completion=-1)}, Reason.MALFORMED),
        ({"price": Price(reasoning=2**60)}, Reason.MALFORMED),
        ({"tokens_per_s": float("nan")}, Reason.MALFORMED),
        ({"tokens_per_s": float("inf")}, Reason.MALFORMED),
        ({"tokens_per_s": -1.0}, Reason.MALFORMED),
        ({"modalities": Offer(model="m").modalities * 17}, Reason.MALFORMED),
    ],
)
def test_an_offer_out_of_bounds_is_rejected(changes, expected):
    offer = msgspec.structs.replace(OFFER, **changes)
    assert reason(signed(offers=(OFFER, offer))) is expected


def test_a_model_offered_twice_is_rejected():
    assert reason(signed(offers=(OFFER, OFFER))) is Reason.MALFORMED


def test_a_peer_that_announces_too_many_models_is_rejected():
    few = tuple(Offer(model=f"m{number}") for number in range(OFFERS_PER_RECORD_MAX))
    assert len(opened(signed(offers=few)).record.offers) == OFFERS_PER_RECORD_MAX
    assert reason(signed(offers=(*few, OFFER))) is Reason.TOO_MANY_OFFERS


def test_a_million_models_are_rejected_unread():
    blob = signed(offers=tuple(Offer(model="m") for _ in range(1_000_000)))
    assert reason(blob) is Reason.OVERSIZE
    with pytest.raises(RecordRejected) as rejected:
        peek(blob)
    assert rejected.value.reason is Reason.OVERSIZE


def test_what_others_would_reject_is_not_signed():
    for changes, expected in (
        ({"name": "a\nb"}, Reason.BAD_TEXT),
        ({"offers": (OFFER, OFFER)}, Reason.MALFORMED),
        ({"certificate": certified(node=OTHER.node_id)}, Reason.CERTIFICATE),
        ({"certificate": b"x"}, Reason.CERTIFICATE),
        ({"revocations": bytes(RECORD_BYTES_MAX)}, Reason.OVERSIZE),
    ):
        with pytest.raises(RecordRejected) as rejected:
            sign_record(KEY.sign, record(**changes))
        assert rejected.value.reason is expected


# --- clocks


def test_clocks_that_differ_by_less_than_the_slack_get_along():
    assert opened(signed(issued_s=NOW + CLOCK_SLACK_S))


@pytest.mark.parametrize(("ahead_s", "expected"), [(DAY, Reason.FUTURE), (-DAY, Reason.EXPIRED)])
def test_a_clock_a_day_apart_is_rejected_saying_by_how_much(ahead_s, expected):
    blob = signed(issued_s=NOW + ahead_s, expires_s=NOW + ahead_s + 3_600)
    with pytest.raises(RecordRejected) as rejected:
        opened(blob)
    assert rejected.value.reason is expected
    assert rejected.value.issued_ahead_s == ahead_s


def test_nobodys_clock_is_blamed_by_a_forgery():
    blob = bytearray(signed(issued_s=NOW + DAY, expires_s=NOW + DAY + 60))
    blob[0] ^= 1
    assert reason(bytes(blob)) is Reason.SIGNATURE


# --- certificates and revocations


def test_a_record_without_a_certificate_is_its_nodes_own():
    found = opened(signed())
    assert (found.operator, found.identities, found.certificate) == (
        *(KEY.node_id, (KEY.node_id,), None),
    )


def test_an_operator_that_changed_its_key_is_known_by_both():
    link = succeed(OPERATOR, HEIR, NOW)
    found = opened(signed(certificate=certified(HEIR, succeeds=[link])))
    assert found.identities == (HEIR.operator_id, OPERATOR.operator_id)


@pytest.mark.parametrize(
    "certificate",
    [
        certified(node=OTHER.node_id),
        certified(roles=(Role.NEURON,)),
        certified(now_s=NOW - 40 * DAY),
        certified(now_s=NOW + DAY),
        certified()[:-1],
    ],
    ids=["of another node", "for another role", "expired", "not yet valid", "cut"],
)
def test_a_certificate_that_does_not_hold_takes_the_record_with_it(certificate):
    assert reason(signed(certificate=certificate)) is Reason.CERTIFICATE


def test_the_operators_word_on_the_region_beats_the_nodes():
    assert opened(signed(certificate=certified(region="us"))).region == "us"
    assert opened(signed(certificate=certified())).region == "eu"


def test_a_revoked_node_is_rejected_once_the_list_is_known():
    book = RevocationBook()
    blob = signed(certificate=certified())
    assert opened(blob, book=book)
    book.take(revoke(OPERATOR, [KEY.node_id], version=1, now_s=NOW))
    assert reason(blob, book=book) is Reason.REVOKED
    # Its own operator no longer, a node may still be nobody's but its own.
    assert opened(signed(), book=book).operator == KEY.node_id


def test_a_record_brings_its_operators_list_along():
    book, seen = RevocationBook(), []
    book.on_change = lambda: seen.append(1)
    listed = revoke(OPERATOR, [OTHER.node_id], version=1, now_s=NOW)
    assert opened(signed(certificate=certified(), revocations=listed), book=book)
    assert book.is_revoked(OPERATOR.operator_id, OTHER.node_id)
    assert seen == [1]


def test_a_record_that_carries_its_own_revocation_is_rejected():
    listed = revoke(OPERATOR, [KEY.node_id], version=1, now_s=NOW)
    assert reason(signed(certificate=certified(), revocations=listed)) is Reason.REVOKED


def test_a_forged_list_in_a_record_takes_the_record_with_it():
    listed = bytearray(revoke(OPERATOR, [OTHER.node_id], version=1, now_s=NOW))
    listed[0] ^= 1
    book = RevocationBook()
    assert reason(signed(revocations=bytes(listed)), book=book) is Reason.MALFORMED
    assert not book.is_revoked(OPERATOR.operator_id, OTHER.node_id)


# --- which of two holds


def test_a_higher_sequence_holds_and_a_replay_does_not():
    held = opened(signed(sequence=7))
    assert supersedes(8, signed(sequence=8), held)
    assert not supersedes(7, held.blob, held)
    assert not supersedes(6, signed(sequence=6), held)
    assert supersedes(0, b"", None)


def test_of_two_records_with_one_sequence_everybody_keeps_the_same():
    one, two = opened(signed(name="one")), opened(signed(name="two"))
    assert supersedes(one.sequence, one.blob, two) != supersedes(two.sequence, two.blob, one)


def test_peeking_costs_no_signature_and_proves_nothing():
    assert peek(bytes(64) + signed()[64:]) == (KEY.node_id, 7)


@pytest.mark.parametrize("changes", [{"node": "x"}, {"sequence": -1}, {"sequence": 2**60}])
def test_a_peek_finds_no_sequence_that_no_record_has(changes):
    with pytest.raises(RecordRejected):
        peek(signed(**changes))


# --- fitting and counting


def test_as_many_offers_as_there_is_room_for_are_published_first_ones_first():
    long = tuple(
        msgspec.structs.replace(OFFER, model=f"{'m' * 150}/{number}", price=Price(completion=9**9))
        for number in range(OFFERS_PER_RECORD_MAX)
    )
    full = record(offers=long, certificate=certified())
    cut = fitted(full)
    kept = len(cut.offers)
    assert 0 < kept < len(long)
    assert cut.offers == long[:kept]
    blob = sign_record(KEY.sign, cut).blob
    assert RECORD_BYTES_MAX - 500 < len(blob) <= RECORD_BYTES_MAX


def test_a_record_that_has_room_is_left_as_it_is():
    assert fitted(record()) == record()
    many = tuple(Offer(model=f"m{number}") for number in range(OFFERS_PER_RECORD_MAX + 5))
    assert len(fitted(record(offers=many)).offers) == OFFERS_PER_RECORD_MAX
