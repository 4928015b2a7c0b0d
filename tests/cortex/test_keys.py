"""API keys: what is stored, what is shown, and how soon a revocation holds."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.accounts.keys import KeyUnknown, open_keys
from helexa.cortex.accounts.secrets import is_well_formed, new_secret
from helexa.cortex.store.engine import StoreUnusable
from helexa.protocol.errors import KeyInvalid, KeyRevoked, RequestRejected


def test_a_new_key_is_accepted_and_its_secret_is_not_stored(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        made = keys.create("laptop")
        assert keys.check(made.secret).key_id == made.key.id
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.key.id.encode() in stored
    assert made.secret.encode() not in stored


def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    with open_keys(tmp_path / "home"):
        mode = stat.S_IMODE((tmp_path / "home" / "helexa.db").stat().st_mode)
    assert mode == 0o600


def test_a_revocation_by_another_process_holds_at_the_next_look(tmp_path: Path) -> None:
    now = [100.0]
    with open_keys(tmp_path) as keys, open_keys(tmp_path) as command:
        keys._monotonic = lambda: now[0]
        made = keys.create("laptop")
        keys.check(made.secret)
        command.revoke("laptop")
        now[0] += 0.011
        with pytest.raises(KeyRevoked):
            keys.check(made.secret)


def test_a_key_made_by_another_process_is_accepted(tmp_path: Path) -> None:
    now = [100.0]
    with open_keys(tmp_path) as keys, open_keys(tmp_path) as command:
        keys._monotonic = lambda: now[0]
        with pytest.raises(KeyInvalid):
            keys.check(new_secret())
        made = command.create("later")
        now[0] += 0.011
        assert keys.check(made.secret).account == "default"


def test_revoking_in_the_same_process_holds_at_once(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        keys._monotonic = lambda: 100.0
        made = keys.create("laptop")
        keys.check(made.secret)
        keys.revoke(made.key.id)
        with pytest.raises(KeyRevoked):
            keys.check(made.secret)


def test_a_key_is_revoked_by_id_by_name_or_by_its_secret(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        for name in ("one", "two", "three"):
            keys.create(name)
        made = keys.create("four")
        listed = {key.name: key for key in keys.all()}
        keys.revoke("one")
        keys.revoke(listed["two"].id)
        keys.revoke(made.secret)
        assert {key.name for key in keys.all() if key.revoked_at is None} == {"three"}


def test_an_ambiguous_name_is_refused_with_the_ids(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        first, second = keys.create("twin"), keys.create("twin")
        with pytest.raises(KeyUnknown) as refusal:
            keys.revoke("twin")
        assert first.key.id in refusal.value.message
        assert second.key.id in refusal.value.message


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with open_keys(tmp_path) as keys, pytest.raises(RequestRejected):
        keys.create(name)


def test_a_database_of_a_newer_helexa_is_refused(tmp_path: Path) -> None:
    with open_keys(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "helexa.db")
    connection.execute("insert into schema_versions values (99, 0)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnusable, match="schema 99"), open_keys(tmp_path):
        pass


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "helexa.db").write_bytes(b"not a database, really not one" * 100)
    with pytest.raises(StoreUnusable, match=r"helexa\.db"), open_keys(tmp_path):
        pass


@given(st.integers(8, 56), st.sampled_from("0123456789ABCxyz"))
def test_a_mistyped_secret_is_recognised_by_its_checksum(position: int, letter: str) -> None:
    secret = new_secret()
    mistyped = secret[:position] + letter + secret[position + 1 :]
    assert is_well_formed(secret)
    assert is_well_formed(mistyped) == (mistyped == secret)
