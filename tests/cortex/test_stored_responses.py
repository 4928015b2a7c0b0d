"""The database of responses: what is bounded goes oldest first, and what is gone is gone."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helexa.cortex.store import engine
from helexa.cortex.store.engine import StoreUnusable
from helexa.cortex.store.kept import Kept
from helexa.cortex.store.responses import FAILURES, StoredResponses, stored_responses

MANY = 1 << 30


def kept(number: int, *, account: str = "a", previous: int | None = None, size: int = 100) -> Kept:
    return Kept(
        id=f"resp_{number}",
        account=account,
        created_at=number,
        previous="" if previous is None else f"resp_{previous}",
        input=b"[]",
        response=b"x" * (size - 2),
    )


@contextmanager
def opened(
    home: Path, *, bytes_max: int = MANY, account_bytes_max: int = MANY
) -> Iterator[StoredResponses]:
    with stored_responses(home, bytes_max=bytes_max, account_bytes_max=account_bytes_max) as stored:
        yield stored


def numbers(stored: StoredResponses, *, account: str = "a", among: int = 20) -> list[int]:
    return [one for one in range(among) if stored.one(account, f"resp_{one}") is not None]


def test_what_is_kept_is_there_after_a_restart_and_its_owners_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as stored:
        stored.write([kept(1), kept(2, previous=1)], [])
    with opened(tmp_path) as stored:
        assert stored.one("a", "resp_2") == kept(2, previous=1)
        assert stored.one("b", "resp_2") is None
        assert stored.bytes == 200
    assert stat.S_IMODE((tmp_path / "responses.db").stat().st_mode) == 0o600


def test_a_line_goes_back_to_the_first_and_ends_where_one_is_missing(tmp_path: Path) -> None:
    with opened(tmp_path) as stored:
        stored.write([kept(1), kept(2, previous=1), kept(3, previous=2)], [])

        def line(bytes_max: int = MANY, count_max: int = 9) -> list[str]:
            found = stored.line("a", "resp_3", bytes_max=bytes_max, count_max=count_max)
            return [one.id for one in found]

        assert line() == ["resp_3", "resp_2", "resp_1"]
        assert line(bytes_max=150) == ["resp_3", "resp_2"]
        assert line(count_max=1) == ["resp_3", "resp_2"]
        stored.write([], [("a", "resp_2")])
        assert line() == ["resp_3"]


def test_the_oldest_of_an_account_make_room_for_its_newest(tmp_path: Path) -> None:
    with opened(tmp_path, account_bytes_max=300) as stored:
        stored.write([kept(10, account="b", size=300)], [])
        for number in range(5):
            stored.write([kept(number)], [])
        assert numbers(stored) == [2, 3, 4]
        stored.write([kept(5, size=250)], [])
        assert numbers(stored) == [5]
        assert numbers(stored, account="b") == [10]


def test_the_oldest_of_all_make_room_where_all_is_full(tmp_path: Path) -> None:
    with opened(tmp_path, bytes_max=300) as stored:
        stored.write([kept(0, account="b"), kept(1), kept(2), kept(3), kept(4)], [])
        assert numbers(stored, account="b") == []
        assert numbers(stored) == [2, 3, 4]
        assert stored.bytes == 300


def test_room_is_counted_as_before_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as stored:
        stored.write([kept(number) for number in range(5)], [])
    with opened(tmp_path, account_bytes_max=300) as stored:
        stored.write([kept(5)], [])
        assert numbers(stored) == [3, 4, 5]


def test_more_than_one_step_of_the_oldest_makes_room(tmp_path: Path) -> None:
    with opened(tmp_path, account_bytes_max=20_000) as stored:
        stored.write([kept(number) for number in range(200)], [])
        stored.write([kept(200, size=15_000)], [])
        assert numbers(stored, among=201) == [*range(150, 201)]


def test_what_was_removed_is_in_none_of_the_files(tmp_path: Path) -> None:
    secret = b"the-client's-secret" * 20
    old = Kept(id="resp_1", account="a", created_at=1, input=secret, response=b"{}")
    new = Kept(id="resp_2", account="a", created_at=2, input=secret, response=b"{}")
    with opened(tmp_path) as stored:
        stored.write([old, new, kept(3)], [])
        assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
        assert stored.write([], [("a", "resp_2"), ("b", "resp_3")]) == {"resp_2"}
        stored.expire(1)
        assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())
        assert numbers(stored) == [3]


def test_what_had_to_make_room_is_in_none_of_the_files_either(tmp_path: Path) -> None:
    secret = b"the-client's-secret" * 20
    old = Kept(id="resp_1", account="a", created_at=1, input=secret, response=b"{}")
    with opened(tmp_path, account_bytes_max=500) as stored:
        stored.write([old], [])
        stored.write([kept(2, size=400)], [])
        stored.expire(0)
        assert numbers(stored) == [2]
        assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


def test_a_reader_holds_the_log_back_until_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 1)
    secret = b"the-client's-secret" * 20
    old = Kept(id="resp_1", account="a", created_at=1, input=secret, response=b"{}")
    with opened(tmp_path) as stored:
        stored.write([old], [])
        reader = sqlite3.connect(tmp_path / "responses.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT id FROM responses").fetchall()
        stored.expire(1)
        assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
        reader.close()
        stored.expire(1)
        assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


def test_a_write_that_is_repeated_is_counted_once(tmp_path: Path) -> None:
    with opened(tmp_path) as stored:
        stored.write([kept(1)], [])
        stored.write([kept(1)], [])
        assert stored.bytes == 100


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, account_bytes_max=150) as stored:
        stored.write([kept(1)], [])
        with pytest.raises(FAILURES):
            stored.write([kept(2)], [("a", object())])  # type: ignore[list-item]
        assert numbers(stored) == [1]
        assert stored.bytes == 100


def test_a_database_of_a_newer_helexa_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "responses.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreUnusable, match="schema 99"), opened(tmp_path):
        pass
