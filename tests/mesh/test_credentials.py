"""What a node keeps of its operator: taken as it is, or refused with the file and the remedy."""

from __future__ import annotations

import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.files.armour import (
    CERTIFICATE,
    REVOCATIONS,
    TEXT_BYTES_MAX,
    ArmourBroken,
    armour,
    unarmour,
)
from helexa.mesh.identity import NodeKey
from helexa.mesh.operators.credentials import (
    CERTIFICATE_FILE,
    REVOCATIONS_FILE,
    load_credentials,
    write_certificate,
    write_revocations,
)
from helexa.mesh.operators.operator import OperatorKey, certify, succeed
from helexa.mesh.operators.revocation import revoke
from helexa.protocol.messages import Role
from helexa.util.home import HomeUnusable

NOW, DAY = 1_800_000_000, 86_400
KEY, OTHER = NodeKey.from_secret(b"k" * 32), NodeKey.from_secret(b"o" * 32)
OLD, NEW, STRANGER = (OperatorKey(NodeKey.from_secret(bytes((n,)) * 32)) for n in (1, 2, 3))


def certified(operator=OLD, node=KEY.node_id, **changes):
    return certify(operator, node, [Role.CORTEX], **{"now_s": NOW, "days": 30} | changes)


def loaded(home, now_s=NOW, **settings):
    return load_credentials(home, KEY, now_s, **settings)


# --- text


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4))
def test_armour_comes_off_as_it_went_on(blobs):
    assert unarmour(CERTIFICATE, armour(CERTIFICATE, *blobs)) == tuple(blobs)


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["\r\n", "\n\n", " \n ", "\n\t"]))
def test_armour_survives_what_mail_and_editors_do_to_lines(blob, line_end):
    text = armour(CERTIFICATE, blob).replace("\n", line_end)
    assert unarmour(CERTIFICATE, f"\n {text} \n") == (blob,)


def test_armour_is_a_header_and_short_lines():
    lines = armour(CERTIFICATE, bytes(500)).splitlines()
    assert lines[0] == "helexa-certificate-1"
    assert max(map(len, lines)) == 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "hello helexa-certificate-1\nAAAA",
        CERTIFICATE,
        f"{CERTIFICATE}\n",
        f"{CERTIFICATE}\nAAA",
        f"{CERTIFICATE}\nAA!A",
        f"{CERTIFICATE}\nAAAA\n{REVOCATIONS}\nAAAA",
        armour(REVOCATIONS, b"x"),
        f"{CERTIFICATE}\n" + "A" * TEXT_BYTES_MAX,
        f"{CERTIFICATE}\n\u00c4\u00c4",
    ],
)
def test_what_is_no_armour_is_refused(text):
    with pytest.raises(ArmourBroken):
        unarmour(CERTIFICATE, text)


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(text):
    with pytest.raises(ArmourBroken):
        unarmour(CERTIFICATE, text)


# --- the node's files


def test_a_node_without_a_certificate_is_its_own_operator(tmp_path):
    mine = loaded(tmp_path / "never made")
    assert (mine.operator, mine.identities) == (KEY.node_id, (KEY.node_id,))
    assert (mine.certificate, mine.certificate_blob, mine.revocations_blob) == (None, b"", b"")


def test_a_node_shows_what_its_operator_signed(tmp_path):
    blob, listed = certified(), revoke(OLD, [OTHER.node_id], version=1, now_s=NOW)
    write_certificate(tmp_path, blob)
    write_revocations(tmp_path, listed)
    mine = loaded(tmp_path, role=Role.CORTEX)
    assert (mine.operator, mine.certificate_blob, mine.revocations_blob) == (
        *(OLD.operator_id, blob, listed),
    )
    assert mine.certificate.node == KEY.node_id


def test_the_files_are_private_and_whole(tmp_path):
    home = tmp_path / "home"
    write_certificate(home, certified())
    write_certificate(home, certified(NEW))
    assert [entry.name for entry in home.iterdir()] == [CERTIFICATE_FILE]
    assert stat.S_IMODE((home / CERTIFICATE_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert loaded(home).operator == NEW.operator_id


def test_an_operator_that_changed_its_key_is_known_by_both(tmp_path):
    write_certificate(tmp_path, certified(NEW, succeeds=[succeed(OLD, NEW, NOW)]))
    # The list of the earlier key is still in force until the next one comes.
    write_revocations(tmp_path, revoke(OLD, [OTHER.node_id], version=1, now_s=NOW))
    assert loaded(tmp_path).identities == (NEW.operator_id, OLD.operator_id)


@pytest.mark.parametrize(
    ("certificate", "settings", "reason"),
    [
        (certified(), {"now_s": NOW + 30 * DAY}, "expired on 2027-02-14"),
        (certified(), {"now_s": NOW - DAY}, "valid only from 2027-01-15"),
        (certified(node=OTHER.node_id), {}, f"is for the node {OTHER.node_id[:10]}"),
        (certified(), {"role": Role.NEURON}, "is for cortex, not for a neuron"),
        (certified()[:-1], {}, "is broken"),
    ],
    ids=["expired", "early", "foreign", "role", "cut"],
)
def test_a_certificate_that_others_would_refuse_is_refused_at_start(
    tmp_path, certificate, settings, reason
):
    write_certificate(tmp_path, certificate)
    with pytest.raises(HomeUnusable, match=reason) as refused:
        loaded(tmp_path, **settings)
    told = str(refused.value)
    assert str(tmp_path / CERTIFICATE_FILE) in told
    assert f"helexa operator sign {KEY.node_id}" in told


@pytest.mark.parametrize("name", [CERTIFICATE_FILE, REVOCATIONS_FILE])
@pytest.mark.parametrize("content", [b"", b"hello", b"\xff", b"helexa-certificate-1\nAAA"])
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HomeUnusable, match=f"{re.escape(str(tmp_path / name))} is not what"):
        loaded(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / CERTIFICATE_FILE).mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot read {tmp_path / CERTIFICATE_FILE}"):
        loaded(tmp_path)
    with pytest.raises(HomeUnusable, match=f"cannot write {tmp_path / CERTIFICATE_FILE}"):
        write_certificate(tmp_path, certified())


def test_two_certificates_in_one_file_are_refused(tmp_path):
    text = armour(CERTIFICATE, certified(), certified())
    (tmp_path / CERTIFICATE_FILE).write_text(text)
    with pytest.raises(HomeUnusable, match="holds 2 statements instead of one"):
        loaded(tmp_path)


def test_a_node_that_its_operator_revoked_does_not_start(tmp_path):
    write_certificate(tmp_path, certified())
    write_revocations(tmp_path, revoke(OLD, [KEY.node_id], version=1, now_s=NOW))
    with pytest.raises(HomeUnusable, match=r"revoked by its operator .*with a new key"):
        loaded(tmp_path)


@pytest.mark.parametrize("with_certificate", [True, False])
def test_a_list_of_another_operator_is_refused(tmp_path, with_certificate):
    if with_certificate:
        write_certificate(tmp_path, certified())
    write_revocations(tmp_path, revoke(STRANGER, [OTHER.node_id], version=1, now_s=NOW))
    with pytest.raises(HomeUnusable, match=r"is of the operator .*or remove the list"):
        loaded(tmp_path)


def test_a_list_that_its_operator_did_not_sign_is_refused(tmp_path):
    listed = bytearray(revoke(OLD, [OTHER.node_id], version=1, now_s=NOW))
    listed[0] ^= 1
    write_certificate(tmp_path, certified())
    write_revocations(tmp_path, bytes(listed))
    with pytest.raises(HomeUnusable, match="is broken: not signed"):
        loaded(tmp_path)
