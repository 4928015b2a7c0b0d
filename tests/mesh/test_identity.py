"""A node's key: made once, kept private, never replaced."""

from __future__ import annotations

import stat
import threading

import iroh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.identity import KeyUnusable, NodeKey, verify


def test_a_key_is_made_once_and_found_again(tmp_path):
    path = tmp_path / "home" / "node.key"
    first = NodeKey.load_or_create(path)
    assert NodeKey.load_or_create(path).node_id == first.node_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["node.key"]


def test_the_node_id_is_the_id_of_the_transport():
    key = NodeKey.generate()
    assert str(iroh.SecretKey.from_bytes(key.secret_bytes).public()) == key.node_id


def test_two_processes_that_start_at_once_agree_on_one_key(tmp_path):
    path = tmp_path / "node.key"
    begin, ids = threading.Barrier(8), []

    def start():
        begin.wait()
        ids.append(NodeKey.load_or_create(path).node_id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_use_is_refused_with_the_remedy(tmp_path, mode):
    path = tmp_path / "node.key"
    NodeKey.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"chmod 600 {path}"):
        NodeKey.load_or_create(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"helexa-node-key-1 ",
        b"helexa-node-key-1 abcd\n",
        b"other " + b"a" * 64,
        b"\xff",
    ],
)
def test_a_file_that_holds_no_key_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "node.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="does not hold a key") as refused:
        NodeKey.load_or_create(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_a_folder_in_the_place_of_the_key_is_refused(tmp_path):
    with pytest.raises(KeyUnusable, match=str(tmp_path)):
        NodeKey.load_or_create(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(KeyUnusable, match="cannot be used"):
        NodeKey.load_or_create(tmp_path / "home" / "node.key")


@given(message=st.binary(max_size=200), other=st.binary(max_size=200))
def test_a_signature_holds_for_its_message_and_its_key_alone(message, other):
    key, stranger = NodeKey.generate(), NodeKey.generate()
    signature = key.sign(message)
    assert verify(key.node_id, message, signature)
    assert verify(key.node_id, other, signature) == (message == other)
    assert not verify(stranger.node_id, message, signature)


@pytest.mark.parametrize("node_id", ["", "zz", "ab" * 31, "AB" * 32, "ff" * 32])
def test_an_id_that_is_no_key_verifies_nothing(node_id):
    assert not verify(node_id, b"", bytes(64))


def test_no_secret_is_in_the_text_of_a_key():
    key = NodeKey.generate()
    assert key.secret_bytes.hex() not in repr(key)


NOBODYS = [
    "00" * 32,
    "01" + "00" * 31,
    "01" + "00" * 30 + "80",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 31,
    "ee" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


@pytest.mark.parametrize("node_id", NOBODYS)
def test_a_name_that_anybody_can_sign_for_verifies_nothing(node_id):
    """Keys of low order: with a point of low order and a zero, some message always holds."""
    points = [bytes.fromhex(point) for point in NOBODYS]
    for number in range(40):
        assert not any(verify(node_id, bytes((number,)), point + bytes(32)) for point in points)
