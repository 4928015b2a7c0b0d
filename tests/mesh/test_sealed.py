"""Sealed statements: what was signed, by whom, and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh import identity
from helexa.mesh.identity import NodeKey, verify
from helexa.mesh.statements.sealed import (
    SEALED_BYTES_MAX,
    SIGNATURE_BYTES,
    Remembered,
    SealBroken,
    SealForged,
    SealOversize,
    peel,
    seal,
    unseal,
)
from helexa.protocol.records import Certificate, Invite, Record, Revocations, Succession

KEY, STRANGER = NodeKey.from_secret(bytes(range(32))), NodeKey.from_secret(bytes(32))
KINDS = {
    Revocations: lambda r: r.operator,
    Certificate: lambda c: c.operator,
    Succession: lambda s: s.old,
    Invite: lambda i: i.issuer,
    Record: lambda r: r.node,
}
REVOCATIONS = Revocations(operator=KEY.node_id, version=3, issued_s=1_000, nodes=("ab" * 32,))


def opened(blob: bytes, kind=Revocations):
    return unseal(blob, kind, KINDS[kind])


def test_a_statement_reads_as_it_was_sealed():
    assert opened(seal(KEY.sign, REVOCATIONS)) == REVOCATIONS


@given(st.data())
def test_a_statement_with_any_bit_flipped_is_refused(data):
    blob = bytearray(seal(KEY.sign, REVOCATIONS))
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealBroken):
        opened(bytes(blob))


@given(st.data())
def test_a_statement_cut_or_continued_is_refused(data):
    blob = seal(KEY.sign, REVOCATIONS)
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    longer = blob + data.draw(st.binary(min_size=1, max_size=50))
    for wrong in (cut, longer):
        with pytest.raises(SealBroken):
            opened(wrong)


def test_a_statement_signed_by_another_than_it_names_is_a_forgery():
    with pytest.raises(SealForged, match=KEY.node_id[:10]):
        opened(seal(STRANGER.sign, REVOCATIONS))


def test_a_statement_of_one_kind_is_never_one_of_another():
    """The same bytes, were they not signed for their kind, would name one more signer."""

    class Twin(msgspec.Struct, frozen=True, kw_only=True, tag="twin", tag_field="t"):
        operator: str
        version: int
        issued_s: int
        nodes: tuple[str, ...] = ()

    blob = seal(KEY.sign, REVOCATIONS)
    with pytest.raises(SealBroken):
        unseal(blob, Twin, lambda t: t.operator)
    # Not even where the body is relabelled, since the label is signed twice.
    relabelled = Twin(**{name: getattr(REVOCATIONS, name) for name in Twin.__struct_fields__})
    with pytest.raises(SealForged):
        unseal(blob[:64] + msgspec.msgpack.encode(relabelled), Twin, lambda t: t.operator)
    untagged = {
        name: getattr(REVOCATIONS, name) for name in ("operator", "version", "issued_s", "nodes")
    }
    bare = msgspec.msgpack.encode(untagged)
    taken_for = KEY.sign(b"helexa revocations 1\0" + bare) + bare
    assert opened(taken_for) == REVOCATIONS
    with pytest.raises(SealForged):
        unseal(taken_for, Twin, lambda t: t.operator)


def test_a_field_from_a_newer_build_is_skipped_and_still_covered():
    body = msgspec.to_builtins(REVOCATIONS) | {"later": [1, {"two": 3}]}
    payload = msgspec.msgpack.encode(body)
    blob = KEY.sign(b"helexa revocations 1\0" + payload) + payload
    assert opened(blob) == REVOCATIONS


HOSTILE = [
    b"",
    b"\x00" * 64,
    b"\x00" * 65,
    b"\x00" * 64 + b"\x91" * 30_000,
    b"\x00" * 64 + b"\x81" * 30_000,
    b"\x00" * 64 + b"\xdf\xff\xff\xff\xff",
    b"\x00" * 64 + b"\xc6\xff\xff\xff\xff",
    b"\x00" * 64 + msgspec.msgpack.encode({"t": "record", "sequence": float("nan")}),
    b"\x00" * 64 + b"\x81\xa1t\xa3\xed\xa0\x80",
    b"\x00" * 64 + b"\x81\xc0\xc0",
    b"\x00" * 64 + msgspec.msgpack.encode({"t": "invite", "issuer": "\x00" * 64}),
    b"\x00" * 64 + b"\xd6\xff\x00\x00\x00\x00",
]


@pytest.mark.parametrize("blob", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_bytes_are_refused_and_nothing_worse(kind, blob):
    with pytest.raises(SealBroken):
        opened(blob, kind)


@given(st.binary(max_size=300), st.sampled_from(list(KINDS)))
def test_any_bytes_are_refused(blob, kind):
    with pytest.raises(SealBroken):
        opened(blob, kind)


def tagged(kind):
    """Bodies that have the right tag and names, and anything at all as values."""
    anything = st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
    names = st.sampled_from(kind.__struct_encode_fields__)
    tag = st.just({"t": kind.__struct_config__.tag})
    return st.tuples(tag, st.dictionaries(names, anything | st.text(max_size=70)))


@given(st.data(), st.sampled_from(list(KINDS)))
def test_fields_of_any_type_are_refused(data, kind):
    tag, rest = data.draw(tagged(kind))
    with pytest.raises(SealBroken):
        opened(bytes(64) + msgspec.msgpack.encode(tag | rest), kind)


def test_more_bytes_than_any_statement_has_are_not_even_read():
    blob = seal(KEY.sign, REVOCATIONS)
    with pytest.raises(SealOversize):
        unseal(blob, Revocations, lambda r: r.operator, bytes_max=len(blob) - 1)
    with pytest.raises(SealOversize):
        opened(bytes(SEALED_BYTES_MAX + 1))


def test_peeling_reads_a_part_and_proves_nothing():
    class Head(msgspec.Struct, tag="revocations", tag_field="t"):
        version: int

    blob = bytes(SIGNATURE_BYTES) + seal(KEY.sign, REVOCATIONS)[SIGNATURE_BYTES:]
    assert peel(blob, Head).version == 3


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, signer, message, signature):
        self.calls += 1
        return verify(signer, message, signature)


def test_a_proof_that_comes_again_is_paid_for_once():
    counting = Counting()
    remembered = Remembered(counting)
    blob = seal(KEY.sign, REVOCATIONS)
    for _ in range(5):
        assert unseal(blob, Revocations, lambda r: r.operator, remembered) == REVOCATIONS
    assert counting.calls == 1


def test_what_did_not_hold_is_never_remembered_as_proven():
    counting = Counting()
    remembered = Remembered(counting)
    blob = seal(STRANGER.sign, REVOCATIONS)
    for _ in range(2):
        with pytest.raises(SealForged):
            unseal(blob, Revocations, lambda r: r.operator, remembered)
    assert counting.calls == 2


@given(st.binary(max_size=80), st.text(max_size=70), st.binary(max_size=70))
def test_remembering_changes_no_answer(message, signer, signature):
    good = (KEY.node_id, message, KEY.sign(message))
    remembered = Remembered()
    for _ in range(2):
        assert remembered(*good)
        for wrong in (
            (signer, message, good[2]),
            (STRANGER.node_id, message, good[2]),
            (KEY.node_id, message + b"x", good[2]),
            (KEY.node_id, message, signature),
            (KEY.node_id[:-1], KEY.node_id[-1].encode() + message, good[2]),
        ):
            assert remembered(*wrong) == identity.verify(*wrong) is False


def test_no_more_proofs_are_remembered_than_said():
    counting = Counting()
    remembered = Remembered(counting, entries_max=2)
    proofs = [(KEY.node_id, message, KEY.sign(message)) for message in (b"a", b"b", b"c")]
    for proof in (proofs[0], proofs[1], proofs[0], proofs[2]):
        assert remembered(*proof)
    assert counting.calls == 3
    assert remembered(*proofs[0])
    assert counting.calls == 3
    assert remembered(*proofs[1])
    assert counting.calls == 4
