"""What keys and accounts say of limits: kept, laid over one another, brought along from before."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from helexa.cortex.accounts.keys import open_keys
from helexa.cortex.accounts.limits import UNBOUND, Limits, Rates, bounds
from helexa.cortex.accounts.secrets import hash_of, new_secret
from helexa.cortex.settings import LimitsSettings
from helexa.cortex.store.engine import FILE_NAME, StoreUnusable, open_store
from helexa.protocol.errors import KeyExpired, KeyInvalid, RequestRejected

NOTHING = Limits()

V1 = """
CREATE TABLE schema_versions (
    version INTEGER NOT NULL, applied_at BIGINT NOT NULL, PRIMARY KEY (version)
);
CREATE TABLE api_keys (
    id TEXT NOT NULL, secret_sha256 BLOB NOT NULL, hint TEXT NOT NULL, name TEXT NOT NULL,
    account TEXT NOT NULL, created_at BIGINT NOT NULL, revoked_at BIGINT,
    PRIMARY KEY (id), UNIQUE (secret_sha256)
);
INSERT INTO schema_versions VALUES (1, 1700000000);
"""


def older(home: Path, secret: str) -> None:
    """A store as the first helexa left it, with one key."""
    connection = sqlite3.connect(home / FILE_NAME)
    connection.executescript(V1)
    connection.execute(
        "INSERT INTO api_keys VALUES ('key_old', ?, 'hx_live_a...z', 'laptop', 'default', 5, NULL)",
        (hash_of(secret),),
    )
    connection.commit()
    connection.close()


def columns(home: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(home / FILE_NAME)
    tables = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE sql != ''")
    ]
    found = {
        table: sorted(row[1:] for row in connection.execute(f"PRAGMA table_info({table})"))
        for table in tables
    }
    connection.close()
    return found


def test_the_keys_of_an_older_store_go_on_working(tmp_path: Path) -> None:
    secret = new_secret()
    older(tmp_path, secret)
    with open_keys(tmp_path) as keys:
        grant = keys.check(secret)
        assert (grant.key_id, grant.account, grant.bounds) == ("key_old", "default", UNBOUND)
        (shown,) = keys.all()
        assert (shown.name, shown.expires_at, shown.limits) == ("laptop", None, NOTHING)
        keys.change("laptop", Limits(concurrent=2))
        assert keys.check(secret).bounds.key == Rates(0.0, 1, 0, 2)
    with open_keys(tmp_path) as keys:
        assert keys.check(secret).bounds.key == Rates(0.0, 1, 0, 2)


def test_a_store_that_was_brought_up_to_date_is_like_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    older(tmp_path / "old", new_secret())
    open_store(tmp_path / "old").dispose()
    open_store(tmp_path / "new").dispose()
    assert columns(tmp_path / "old") == columns(tmp_path / "new")


def test_a_step_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = new_secret()
    older(tmp_path, secret)
    before = columns(tmp_path)
    steps = {2: ("ALTER TABLE api_keys ADD COLUMN limits TEXT", "no statement")}
    with monkeypatch.context() as patched:
        patched.setattr("helexa.cortex.store.engine.STEPS", steps)
        with pytest.raises(StoreUnusable, match="no statement"):
            open_store(tmp_path)
    assert columns(tmp_path) == before
    with open_keys(tmp_path) as keys:
        assert keys.check(secret).key_id == "key_old"


def test_a_key_that_has_expired_is_refused_until_it_is_given_more_time(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        made = keys.create("guest", expires_at=int(time.time()) + 100)
        assert keys.check(made.secret)
        keys._unix = lambda: time.time() + 101
        with pytest.raises(KeyExpired):
            keys.check(made.secret)
        keys.change("guest", NOTHING, unset=("expires_at",))
        assert keys.check(made.secret).expires_at is None
        with pytest.raises(KeyInvalid):
            keys.check(new_secret())


def test_what_is_changed_stays_beside_what_was_said_before(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys:
        keys.create("k", limits=Limits(weight=2.0, concurrent=5))
        keys.change("k", Limits(tokens_per_minute=100))
        found = keys.change("k", NOTHING, unset=("concurrent",))
        assert found.limits == Limits(weight=2.0, tokens_per_minute=100)
        keys.change_account("firm", Limits(concurrent=3))
        keys.change_account("firm", Limits(weight=0.5))
        shown = {one.name: (one.keys, one.limits) for one in keys.accounts()}
        assert shown == {"default": (1, NOTHING), "firm": (0, Limits(concurrent=3, weight=0.5))} | {
            "default": (1, NOTHING)
        }


def test_limits_of_an_account_hold_for_its_keys_at_once(tmp_path: Path) -> None:
    with open_keys(tmp_path) as keys, open_keys(tmp_path) as command:
        now = [100.0]
        keys._monotonic = lambda: now[0]
        made = keys.create("k", account="firm")
        assert keys.check(made.secret).bounds == UNBOUND
        command.change_account("firm", Limits(weight=3.0, models=("small/*",)))
        now[0] += 0.011
        found = keys.check(made.secret).bounds
        assert found.weight == 3.0
        assert (found.may_use("small/a"), found.may_use("large/a")) == (True, False)


@pytest.mark.parametrize("name", ["", " x", "a b", "x" * 65, "ä", "a/b", "-x", "a\n"])
def test_a_bad_account_is_refused(tmp_path: Path, name: str) -> None:
    with open_keys(tmp_path) as keys:
        with pytest.raises(RequestRejected):
            keys.create("k", account=name)
        with pytest.raises(RequestRejected):
            keys.change_account(name, Limits(weight=2.0))


def test_the_last_layer_that_says_something_decides() -> None:
    defaults = LimitsSettings(
        requests_per_s=1.0, tokens_per_minute=50, output_tokens_max=100, models=("a", "b")
    )
    plain = bounds(defaults, NOTHING, NOTHING)
    assert plain.key == Rates(1.0, 1, 50, 0)
    assert plain.account is None
    assert (plain.may_use("a"), plain.may_use("c")) == (True, False)
    own = bounds(
        defaults,
        Limits(tokens_per_minute=500, weight=2.0, models=("c", "d")),
        Limits(requests_per_s=0.0, output_tokens_max=300, models=("*",)),
    )
    assert own.key == Rates(0.0, 1, 50, 0)
    assert own.account == Rates(0.0, 1, 500, 0)
    assert own.output_tokens_max == 300
    assert own.weight == 2.0
    assert [name for name in "abcd" if own.may_use(name)] == ["c", "d"]


def test_an_accounts_longest_answer_binds_keys_that_say_more() -> None:
    found = bounds(LimitsSettings(), Limits(output_tokens_max=50), Limits(output_tokens_max=80))
    assert found.output_tokens_max == 50
    assert bounds(LimitsSettings(), Limits(priority="bulk"), NOTHING).is_bulk
