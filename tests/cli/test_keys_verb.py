"""`helexa keys` on a database that no cortex runs on, and through a cortex's control API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helexa.cli.entry import enter
from helexa.cortex.accounts.keys import open_keys
from helexa.protocol.errors import KeyRevoked


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_key_is_made_listed_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    assert enter(["keys", "list", *home]) == 0
    assert told(capsys).startswith("no keys")
    assert enter(["keys", "create", "--name", "laptop", *home]) == 0
    secret = told(capsys).strip()
    with open_keys(tmp_path / "cortex") as keys:
        assert keys.check(secret).account == "default"
    assert enter(["keys", "list", *home]) == 0
    listed = told(capsys)
    assert "laptop" in listed
    assert secret not in listed
    assert enter(["keys", "revoke", "laptop", *home]) == 0
    with open_keys(tmp_path / "cortex") as keys, pytest.raises(KeyRevoked):
        keys.check(secret)


def test_json_carries_the_secret_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path), "--json"]
    assert enter(["keys", "create", "--name", "ci", *home]) == 0
    made = json.loads(told(capsys))
    assert made["secret"].startswith("hx_live_")
    assert enter(["keys", "list", *home]) == 0
    (row,) = json.loads(told(capsys))["keys"]
    assert row["id"] == made["key"]["id"]
    assert "secret" not in row


def test_what_a_key_may_ask_for_is_set_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    made = ["--account", "team", "--concurrent", "4", "--expires", "30d"]
    assert enter(["keys", "create", "ci", *made, *home]) == 0
    capsys.readouterr()
    assert enter(["keys", "set", "ci", "--models", "a/*, b", "--requests-per-s", "2.5", *home]) == 0
    assert "requests_per_s=2.5 concurrent=4 models=a/*,b" in told(capsys)
    unset = ["--concurrent", "default", "--expires", "never"]
    assert enter(["keys", "set", "ci", *unset, *home]) == 0
    assert "until" not in told(capsys)
    assert enter(["keys", "set", "--account", "team", "--weight", "2", *home]) == 0
    assert told(capsys) == "account team says weight=2\n"
    assert enter(["keys", "list", "--json", *home]) == 0
    (row,) = json.loads(told(capsys))["keys"]
    assert row["limits"]["models"] == ["a/*", "b"]
    assert (row["account"], row["expires_at"], row["limits"]["concurrent"]) == ("team", None, None)
    assert enter(["keys", "accounts", *home]) == 0
    assert "weight=2" in told(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "ci"], "something to set"),
        (["set"], "a key, or --account NAME"),
        (["set", "ci", "--account", "a", "--weight", "1"], "a key, or --account NAME"),
        (["set", "--account", "a", "--expires", "30d"], "accounts do not"),
        (["set", "ci", "--concurrent", "many"], "--concurrent takes a whole number"),
        (["set", "ci", "--weight", "-1"], "weight"),
        (["set", "ci", "--priority", "urgent"], "priority"),
        (["create", "ci", "--weight", "default"], "no limits to leave"),
        (["list", "--weight", "2"], "sets nothing"),
        (["revoke", "ci", "--weight", "2"], "sets nothing"),
    ],
)
def test_limits_that_make_no_sense_are_misuse(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(["keys", *arguments, "--home", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_key_is_a_refusal_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(["keys", "revoke", "nobody", "--home", str(tmp_path)]) == 1
    assert "'nobody'" in capsys.readouterr().err


def test_a_database_that_cannot_be_opened_is_said_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cortex").mkdir()
    (tmp_path / "cortex" / "helexa.db").write_text("this is not a database" * 100)
    assert enter(["keys", "list", "--home", str(tmp_path)]) == 1
    assert str(tmp_path / "cortex" / "helexa.db") in capsys.readouterr().err
