"""Operators: who may speak for a node, for how long, and under which earlier names."""

from __future__ import annotations

import stat
from itertools import pairwise

import pytest

from helexa.mesh.identity import KeyUnusable, NodeKey
from helexa.mesh.operators.operator import (
    CERTIFICATE_BYTES_MAX,
    CLOCK_SLACK_S,
    SUCCESSIONS_MAX,
    CertificateRefused,
    CertificateRevoked,
    OperatorKey,
    certify,
    check_certificate,
    identify,
    identities,
    read_certificate,
    succeed,
)
from helexa.mesh.statements.sealed import seal
from helexa.protocol.messages import Role
from helexa.protocol.records import Certificate, Succession

NOW, DAY = 1_800_000_000, 86_400
NODE = NodeKey.from_secret(b"n" * 32).node_id
OTHER = NodeKey.from_secret(b"o" * 32).node_id
KEYS = [OperatorKey(NodeKey.from_secret(bytes((number,)) * 32)) for number in range(12)]
KEY = KEYS[0]


def certified(key=KEY, **changes):
    settings = {"now_s": NOW, "days": 30, "region": "eu", "name": "Ada", "contact": "ada@example"}
    return certify(key, NODE, [Role.CORTEX], **settings | changes)


def sealed(key=KEY, **changes):
    """A certificate that `certify` would not make, signed all the same."""
    fields = {
        "operator": key.operator_id,
        "node": NODE,
        "roles": ("cortex",),
        "serial": "1",
        "issued_s": NOW,
        "expires_s": NOW + DAY,
    }
    return seal(key.sign, Certificate(**fields | changes))


def chain(*keys):
    return tuple(succeed(old, new, NOW) for old, new in pairwise(keys))


# --- the key file


def test_an_operator_key_is_made_once_and_private(tmp_path):
    path = tmp_path / "operator" / "operator.key"
    made = OperatorKey.create(path)
    assert OperatorKey.load(path).operator_id == made.operator_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["operator.key"]


def test_an_operator_key_is_never_replaced(tmp_path):
    path = tmp_path / "operator.key"
    OperatorKey.create(path)
    content = path.read_bytes()
    with pytest.raises(KeyUnusable, match="helexa operator rotate"):
        OperatorKey.create(path)
    assert path.read_bytes() == content


def test_a_node_key_is_no_operator_key_nor_the_other_way_round(tmp_path):
    NodeKey.load_or_create(tmp_path / "node.key")
    with pytest.raises(KeyUnusable, match="helexa-operator-key-1"):
        OperatorKey.load(tmp_path / "node.key")
    OperatorKey.create(tmp_path / "operator.key")
    with pytest.raises(KeyUnusable, match="helexa-node-key-1"):
        NodeKey.load_or_create(tmp_path / "operator.key")


def test_an_operator_key_that_others_can_read_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "operator.key"
    OperatorKey.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match=f"the operator key .*chmod 600 {path}"):
        OperatorKey.load(path)


def test_no_secret_is_in_the_text_of_an_operator_key():
    assert (b"\0" * 32).hex() not in repr(KEY)


# --- certificates


def test_a_certificate_holds_for_its_node_role_and_time():
    found = check_certificate(certified(), node=NODE, now_s=NOW + DAY, role=Role.CORTEX)
    assert (found.operator, found.node, found.roles) == (KEY.operator_id, NODE, ("cortex",))
    assert (found.region, found.name, found.contact) == ("eu", "Ada", "ada@example")
    assert (found.issued_s, found.expires_s) == (NOW, NOW + 30 * DAY)


def test_two_certificates_have_two_serials():
    assert read_certificate(certified()).serial != read_certificate(certified()).serial


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": OTHER}, f"is for the node {NODE[:10]}, not for {OTHER[:10]}"),
        ({"now_s": NOW + 30 * DAY}, "expired on 2027-02-14"),
        ({"now_s": NOW - CLOCK_SLACK_S - 1}, "valid only from 2027-01-15"),
        ({"now_s": NOW - DAY}, "check the clocks"),
        ({"role": Role.NEURON}, "is for cortex, not for a neuron"),
    ],
)
def test_a_certificate_says_why_it_does_not_hold(changes, reason):
    with pytest.raises(CertificateRefused, match=reason):
        check_certificate(certified(), **{"node": NODE, "now_s": NOW} | changes)


def test_a_clock_that_is_a_little_behind_does_no_harm():
    check_certificate(certified(), node=NODE, now_s=NOW - CLOCK_SLACK_S)


def test_a_certificate_that_another_key_signed_is_refused():
    forged = sealed(KEYS[1], operator=KEY.operator_id)
    with pytest.raises(CertificateRefused, match="broken: not signed"):
        check_certificate(forged, node=NODE, now_s=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"node": "me"},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"name": "\x1b[2J"},
        {"region": "\u202eeu"},
        {"contact": "c" * 201},
        {"serial": "s" * 65},
        {"roles": ("cortex",) * 9},
        {"roles": ("r" * 33,)},
        {"contact": "c" * CERTIFICATE_BYTES_MAX},
        {"succeeds": (b"",)},
        {"succeeds": (b"x" * 600,)},
    ],
)
def test_a_certificate_of_bad_form_is_refused_whoever_signed_it(changes):
    with pytest.raises(CertificateRefused):
        read_certificate(sealed(**changes))


def test_a_role_of_a_newer_build_does_no_harm():
    blob = sealed(roles=("cortex", "archive"))
    assert check_certificate(blob, node=NODE, now_s=NOW, role=Role.CORTEX).roles[1] == "archive"


@pytest.mark.parametrize("expires_s", [2**64 - 1, 2**40])
def test_a_date_that_no_calendar_holds_is_still_explained(expires_s):
    blob = sealed(issued_s=expires_s, expires_s=expires_s)
    with pytest.raises(CertificateRefused, match="valid only from"):
        check_certificate(blob, node=NODE, now_s=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"days": 0},
        {"days": 3_651},
        {"name": "n" * 65},
        {"contact": "c" * 201},
        {"region": "\x00"},
        {"succeeds": chain(KEYS[3], KEYS[4])},
    ],
)
def test_what_readers_would_refuse_is_not_signed(changes):
    with pytest.raises(ValueError, match=r"accepted|valid for|holds|text|plain"):
        certified(**changes)


def test_a_node_that_is_no_id_is_not_signed():
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        certify(KEY, "my node", [Role.CORTEX], now_s=NOW, days=1)


# --- successions


def test_an_operator_keeps_its_earlier_ids():
    blob = certified(KEYS[2], succeeds=chain(*KEYS[:3]))
    certificate = check_certificate(blob, node=NODE, now_s=NOW)
    assert identities(certificate) == tuple(key.operator_id for key in reversed(KEYS[:3]))


def test_as_many_keys_as_count_fit_into_a_certificate():
    keys = KEYS[: SUCCESSIONS_MAX + 1]
    blob = certified(
        keys[-1], succeeds=chain(*keys), name="n" * 64, region="r" * 64, contact="c" * 200
    )
    assert len(blob) <= CERTIFICATE_BYTES_MAX
    assert len(identities(read_certificate(blob))) == SUCCESSIONS_MAX + 1


def test_a_chain_that_is_too_long_is_refused():
    keys = KEYS[: SUCCESSIONS_MAX + 2]
    with pytest.raises(CertificateRefused, match="more than 8 earlier keys"):
        read_certificate(sealed(keys[-1], succeeds=chain(*keys)))


@pytest.mark.parametrize(
    "succeeds",
    [
        pytest.param(chain(KEYS[1], KEYS[2]), id="leads to somebody else"),
        pytest.param(chain(KEYS[1], KEYS[0])[::-1] + chain(KEYS[2], KEYS[3]), id="two chains"),
        pytest.param(tuple(reversed(chain(*KEYS[3:0:-1], KEYS[0]))), id="out of order"),
        pytest.param(chain(KEYS[0], KEYS[1], KEYS[0]), id="a loop"),
        pytest.param(chain(KEYS[0], KEYS[0]), id="of itself"),
        pytest.param((chain(KEYS[1], KEYS[0])[0][:-1],), id="cut"),
    ],
)
def test_a_chain_that_does_not_lead_here_is_refused(succeeds):
    with pytest.raises(CertificateRefused, match="succession"):
        read_certificate(sealed(KEYS[0], succeeds=succeeds))


def test_nobody_becomes_an_heir_by_its_own_word():
    """Only the old key names the new one."""
    claim = Succession(old=KEYS[1].operator_id, new=KEYS[0].operator_id, issued_s=NOW)
    forged = seal(KEYS[0].sign, claim)
    with pytest.raises(CertificateRefused, match="broken succession: not signed"):
        read_certificate(sealed(KEYS[0], succeeds=(forged,)))


# --- identities of nodes


def test_a_node_without_a_certificate_is_its_own_operator():
    known = identify(NODE, b"", now_s=NOW)
    assert (known.operator, known.identities, known.certificate) == (NODE, (NODE,), None)


def test_a_node_with_a_certificate_is_its_operators():
    known = identify(NODE, certified(KEYS[1], succeeds=chain(*KEYS[:2])), now_s=NOW)
    assert known.identities == (KEYS[1].operator_id, KEYS[0].operator_id)
    assert known.operator == KEYS[1].operator_id


def test_a_revoked_node_is_told_apart_from_a_broken_certificate():
    with pytest.raises(CertificateRevoked):
        identify(NODE, certified(), now_s=NOW, is_revoked=lambda operator, node: True)
    with pytest.raises(CertificateRefused) as refused:
        identify(OTHER, certified(), now_s=NOW, is_revoked=lambda operator, node: True)
    assert not isinstance(refused.value, CertificateRevoked)
