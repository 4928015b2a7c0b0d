"""The operator's folder: nothing is signed unnoted, nothing is lost by an interruption."""

from __future__ import annotations

import stat

import pytest

from helexa.mesh.identity import KeyUnusable, NodeKey
from helexa.mesh.operators import operator_folder as module
from helexa.mesh.operators.operator import check_certificate, identities, read_certificate
from helexa.mesh.operators.operator_folder import OperatorFolder
from helexa.mesh.operators.revocation import RevocationBook, read_revocations
from helexa.protocol.messages import Role
from helexa.util.home import HomeUnusable

NOW, DAY = 1_800_000_000, 86_400
NODES = [NodeKey.from_secret(bytes((number,)) * 32).node_id for number in range(1, 5)]
NODE = NODES[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "operator"


@pytest.fixture
def folder(path):
    return OperatorFolder.init(path, name="Ada", contact="ada@example")


def signed(folder, node=NODE, **changes):
    return folder.sign(node, [Role.CORTEX], **{"now_s": NOW} | changes)


def test_an_operator_is_made_once_and_found_again(path, folder):
    again = OperatorFolder.open(path)
    assert again.operator_id == folder.operator_id
    assert (again.name, again.contact) == ("Ada", "ada@example")
    with pytest.raises(KeyUnusable, match="exists already"):
        OperatorFolder.init(path)
    assert OperatorFolder.open(path).operator_id == folder.operator_id


def test_where_there_is_no_operator_the_remedy_is_told(tmp_path):
    with pytest.raises(HomeUnusable, match=f"no operator in {tmp_path}; run: helexa operator init"):
        OperatorFolder.open(tmp_path)


@pytest.mark.parametrize("settings", [{"name": "n" * 65}, {"contact": "a\nb"}])
def test_a_name_that_no_reader_would_take_makes_no_operator(path, settings):
    with pytest.raises(ValueError, match="at most 64 characters"):
        OperatorFolder.init(path, **settings)
    assert not path.exists()


def test_everything_in_the_folder_is_private(path, folder):
    signed(folder)
    folder.revoke([NODES[1]], now_s=NOW)
    folder.rotate(now_s=NOW)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()}
    assert modes == dict.fromkeys(
        (
            *("operator.key", "operator.key.1", "about.json"),
            *("signed.jsonl", "revocations", "successions"),
        ),
        0o600,
    )


# --- certificates


def test_what_was_signed_is_noted(folder):
    blob = signed(folder, region="eu", days=30)
    made = check_certificate(blob, node=NODE, now_s=NOW)
    (note,) = folder.signed()
    assert (made.name, made.contact, made.region) == ("Ada", "ada@example", "eu")
    assert (note.node, note.serial, note.expires_s) == (NODE, made.serial, NOW + 30 * DAY)
    assert (note.operator, note.roles, note.region) == (folder.operator_id, ("cortex",), "eu")


def test_signing_again_renews(folder):
    signed(folder)
    signed(folder, now_s=NOW + DAY)
    assert len(folder.signed()) == 2
    assert folder.newest()[NODE].issued_s == NOW + DAY


def test_a_certificate_that_cannot_be_noted_is_not_handed_out(path, folder):
    (path / "signed.jsonl").mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot write {path / 'signed.jsonl'}"):
        signed(folder)


def test_a_note_that_is_none_is_refused_by_its_line(path, folder):
    signed(folder)
    with (path / "signed.jsonl").open("a") as file:
        file.write('{"node": "cut')
    with pytest.raises(HomeUnusable, match=r"signed.jsonl, line 2, .*remove that line"):
        folder.signed()


@pytest.mark.parametrize("name", ["about.json", "successions", "revocations", "operator.key"])
def test_a_damaged_file_is_refused_by_its_name(path, folder, name):
    signed(folder)
    (path / name).write_bytes(b"\xff")
    with pytest.raises((HomeUnusable, KeyUnusable), match=str(path / name)):
        signed(OperatorFolder.open(path))


# --- revocations


def test_a_revoked_node_stays_on_the_list_that_grows(folder):
    for node in NODES[:2]:
        signed(folder, node)
        folder.revoke([node], now_s=NOW)
    listed, blob = folder.revocations()
    assert listed == read_revocations(blob)
    assert (set(listed.nodes), listed.version) == (set(NODES[:2]), 2)


def test_a_revoked_node_is_not_signed_again(folder):
    signed(folder)
    folder.revoke([NODE], now_s=NOW)
    with pytest.raises(ValueError, match="was revoked; with a new key"):
        signed(folder)
    assert len(folder.signed()) == 1


def test_a_node_leaves_the_list_when_its_certificate_has_expired(folder):
    signed(folder, NODES[0], days=10)
    signed(folder, NODES[1], days=30)
    # Nobody noted when this one expires, so it stays.
    folder.revoke(NODES[:3], now_s=NOW)
    folder.revoke([NODES[3]], now_s=NOW + 20 * DAY)
    listed, _ = folder.revocations()
    assert set(listed.nodes) == {NODES[1], NODES[2], NODES[3]}


# --- rotation


def test_after_a_rotation_the_new_key_signs_and_the_old_id_still_counts(path, folder):
    new = folder.rotate(now_s=NOW)
    assert new.operator_id != folder.operator_id
    assert new.operator_id == OperatorFolder.open(path).operator_id
    assert identities(read_certificate(signed(new))) == (new.operator_id, folder.operator_id)
    assert (path / "operator.key.1").read_text() != (path / "operator.key").read_text()
    assert not (path / "operator.key.next").exists()


def test_every_key_is_kept_aside(path, folder):
    ids = [folder.operator_id]
    for _ in range(10):
        folder = folder.rotate(now_s=NOW)
        ids.insert(0, folder.operator_id)
    # Of more than eight earlier keys the oldest no longer count.
    assert identities(read_certificate(signed(folder))) == tuple(ids[:9])
    assert len(list(path.glob("operator.key.*"))) == 10
    assert len({key.read_text() for key in path.glob("operator.key*")}) == 11


def test_what_was_revoked_stays_revoked_under_both_keys(folder):
    signed(folder)
    folder.revoke([NODE], now_s=NOW)
    new = folder.rotate(now_s=NOW)
    listed, blob = new.revocations()
    assert (listed.operator, listed.nodes, listed.version) == (new.operator_id, (NODE,), 2)
    book = RevocationBook()
    book.take(blob, identities=(new.operator_id, folder.operator_id))
    # The node still has the old key's certificate to show.
    assert book.is_revoked(folder.operator_id, NODE)


def failing(monkeypatch, name):
    """The step `name` of a rotation is where the machine loses power."""

    class PowerLostError(Exception):
        pass

    def lost(*_args, **_settings):
        raise PowerLostError

    monkeypatch.setattr(module, name, lost)
    return PowerLostError


@pytest.mark.parametrize("step", ["succeed", "write_armoured", "revoke", "_keep_aside"])
def test_a_rotation_that_was_interrupted_is_finished_by_the_next(path, folder, monkeypatch, step):
    signed(folder, NODES[1])
    folder.revoke([NODES[1]], now_s=NOW)
    with monkeypatch.context() as patch, pytest.raises(failing(patch, step)):
        folder.rotate(now_s=NOW)
    assert OperatorFolder.open(path).operator_id == folder.operator_id
    begun = (path / "operator.key.next").read_text()
    new = OperatorFolder.open(path).rotate(now_s=NOW)
    assert (path / "operator.key").read_text() == begun
    assert identities(read_certificate(signed(new))) == (new.operator_id, folder.operator_id)
    assert new.revocations()[0].nodes == (NODES[1],)
    assert sorted(entry.name for entry in path.glob("operator.key*")) == [
        "operator.key",
        "operator.key.1",
    ]


def test_a_key_that_was_kept_aside_before_the_interruption_is_not_kept_twice(path, folder):
    (path / "operator.key.1").hardlink_to(path / "operator.key")
    folder.rotate(now_s=NOW)
    assert sorted(entry.name for entry in path.glob("operator.key*")) == [
        "operator.key",
        "operator.key.1",
    ]


def test_between_two_keys_nothing_is_signed(path, folder, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(failing(patch, "_keep_aside")):
        folder.rotate(now_s=NOW)
    with pytest.raises(HomeUnusable, match=r"was interrupted; finish it: helexa operator rotate"):
        signed(OperatorFolder.open(path))


def test_successions_of_another_operator_are_refused(path, folder, tmp_path):
    other = OperatorFolder.init(tmp_path / "other")
    other.rotate(now_s=NOW)
    (path / "successions").write_bytes((tmp_path / "other" / "successions").read_bytes())
    with pytest.raises(HomeUnusable, match="successions leads to"):
        signed(folder)
    with pytest.raises(HomeUnusable, match="successions leads to"):
        folder.rotate(now_s=NOW)
