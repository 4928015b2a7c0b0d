"""Federation settings changed while the cortex runs: judged, kept, and shown with their origin."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from helexa.config import Config, ConfigRefused, load
from helexa.config.catalogue import SETTINGS
from helexa.config.federation import BY_HAND, FILE, FederationStore
from helexa.protocol.errors import RequestRejected


def config(home: Path, **variables: str) -> Config:
    environment = {f"HELEXA_FEDERATION_{key.upper()}": text for key, text in variables.items()}
    return load({"home": ("--home", str(home))}, environment)


def file_of(home: Path) -> Path:
    return home / "cortex" / FILE


def test_without_changes_the_configuration_holds_and_nothing_is_written(tmp_path: Path) -> None:
    given = config(tmp_path, lend_to="known")
    store = FederationStore.of(given)
    assert store.settings == given.cortex.federation
    assert not file_of(tmp_path).parent.exists()
    shown = store.shown()
    assert set(shown) == {one.name for one in SETTINGS.values() if one.section == "federation"}
    assert shown["lend_to"]["value"] == "known"
    assert shown["lend_to"]["origin"] == "HELEXA_FEDERATION_LEND_TO"
    assert shown["lend_classes"]["value"] == []
    assert shown["order"]["origin"] == "default"
    assert shown["hops_max"]["accepted"] == "a whole number from 0 to 8"


def test_a_change_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    given = config(tmp_path, lend_to="known")
    store = FederationStore.of(given)
    changes = {"lend_classes": "!chat_*,embedding", "hops_max": 0, "lend_models": ["a/*"]}
    settings = store.change(changes, ())
    assert settings is store.settings
    assert settings.lend_classes == ("!chat_*", "embedding")
    again = FederationStore.of(given)
    assert again.settings == settings
    assert (again.settings.lend_to, again.settings.hops_max) == ("known", 0)
    assert again.shown()["lend_classes"]["origin"] == BY_HAND
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_what_is_unset_returns_to_the_configuration_of_today(tmp_path: Path) -> None:
    FederationStore.of(config(tmp_path)).change({"lend_to": "own", "order": "fastest"}, ())
    store = FederationStore.of(config(tmp_path, lend_to="known"))
    assert store.settings.lend_to == "own"
    store.change({}, ["lend_to"])
    assert store.settings.lend_to == "known"
    assert store.settings.order == "fastest"
    assert json.loads(file_of(tmp_path).read_text()) == {"order": "fastest"}


def test_a_limit_can_be_lifted_that_the_configuration_sets(tmp_path: Path) -> None:
    store = FederationStore.of(config(tmp_path, borrow_price_max="5"))
    assert store.change({"borrow_price_max": None}, ()).borrow_price_max is None
    assert FederationStore.of(config(tmp_path, borrow_price_max="5")).settings == store.settings


@pytest.mark.parametrize(
    ("changes", "unset", "words"),
    [
        ({"lend_to": "all"}, [], "lend_to: 'all' is not a choice; accepted: one of nobody, known"),
        ({"hops_max": 9}, [], "hops_max: 9 is out of range; accepted: a whole number from 0 to 8"),
        ({"hops_max": "many"}, [], "hops_max: 'many' is not a whole number"),
        ({"hops_max": None}, [], "hops_max: null is not a number"),
        ({"hops_max": True}, [], "hops_max: true is not a number"),
        ({"lend_classes": {"a": 1}}, [], "is not a list"),
        ({"lend_classes": ["chat"]}, [], "'chat' matches nothing; accepted: a list, each a"),
        ({"lend_class": "x"}, [], "lend_class: is not a setting; did you mean lend_classes?"),
        ({}, ["queue_max"], "queue_max: is not a setting; did you mean cortex.queue_max"),
        ({"order": "fastest"}, ["order"], "order: is to be set and unset at once"),
        ({"order": "x", "hops_max": -1}, [], "; hops_max: -1 is out of range"),
    ],
)
def test_a_refused_change_names_the_range_and_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], unset: list[str], words: str
) -> None:
    store = FederationStore.of(config(tmp_path))
    store.change({"lend_to": "known"}, ())
    before = file_of(tmp_path).read_bytes()
    with pytest.raises(RequestRejected) as refused:
        store.change({**changes, "lend_regions": "eu"}, unset)
    assert words in refused.value.message
    assert refused.value.param in (*changes, *unset)
    assert file_of(tmp_path).read_bytes() == before
    assert store.settings.lend_regions == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 30_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"hops_max": 99}', "federation.hops_max: 99 is out of range; accepted: a whole number"),
        ('{"hop_max": 1}', "federation.hop_max: is not a setting; did you mean hops_max?"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_refusal_that_names_it(
    tmp_path: Path, text: str, words: str
) -> None:
    file = file_of(tmp_path)
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ConfigRefused) as refused:
        FederationStore.of(config(tmp_path))
    assert str(refused.value).startswith(f"{file}: ")
    assert words in str(refused.value)


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    store = FederationStore.of(config(tmp_path))
    (tmp_path / "cortex").write_text("in the way")
    with pytest.raises(OSError, match="cortex"):
        store.change({"lend_to": "own"}, ())
    assert store.settings.lend_to == "trusted"
