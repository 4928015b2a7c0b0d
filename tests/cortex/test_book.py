"""The live book: all or nothing, on the disk before it is said, and the file comes first."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.books import Shelf, Source, entry

from helexa.cortex.orchestrator.book import BY_CALL, Book
from helexa.cortex.orchestrator.entries import KEPT_FILE, FixedEntries, KeptEntries
from helexa.cortex.settings import OrchestratorSettings
from helexa.mesh.files.private_files import replace_private
from helexa.protocol.errors import CatalogueConflict, ModelUnknown, RequestRejected
from helexa.protocol.work import Price
from helexa.util.home import HomeUnusable


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path, entry("file-a", aliases=["chat"]), entry("file-b"))


def test_a_book_begins_with_the_file_and_writes_nothing(shelf):
    assert shelf.models == ["file-a", "file-b"]
    assert (shelf.book.revision, shelf.book.problems, shelf.book.stale) == (1, (), ())
    assert shelf.book.origin("file-b") == "helexa.toml:20"
    assert shelf.book.origin("other") == ""
    assert not (shelf.home / KEPT_FILE).exists()


def test_an_entry_made_by_call_holds_at_once_and_after_a_restart(shelf):
    assert shelf.book.put(entry("m", fallbacks=("chat",), price=Price(completion=3)))
    assert shelf.models == ["file-a", "file-b", "m"]
    assert shelf.book.revision == 2
    assert shelf.told == [2]
    assert shelf.events == [{"event": "catalogue_changed", "revision": 2, "models": 3}]
    assert shelf.book.origin("m") == BY_CALL
    assert stat.S_IMODE((shelf.home / KEPT_FILE).stat().st_mode) == 0o600
    before = shelf.book.catalogue
    again = shelf.reopen()
    assert again.catalogue == before
    assert again.revision == 1


def test_an_entry_is_replaced_in_its_place_and_nothing_new_is_no_change(shelf):
    shelf.book.put(entry("m"))
    shelf.book.put(entry("n"))
    assert not shelf.book.put(entry("m", slots=2))
    assert shelf.models[2:] == ["m", "n"]
    revision, told = shelf.book.revision, list(shelf.told)
    written = (shelf.home / KEPT_FILE).stat().st_mtime_ns
    assert not shelf.book.put(entry("m", slots=2))
    assert (shelf.book.revision, shelf.told) == (revision, told)
    assert (shelf.home / KEPT_FILE).stat().st_mtime_ns == written


def test_a_catalogue_that_somebody_holds_does_not_change(shelf):
    held = shelf.book.catalogue
    shelf.book.put(entry("m"))
    shelf.book.remove("m")
    assert "m" not in held.entries
    assert held == shelf.book.catalogue


def test_an_entry_is_removed_for_good(shelf):
    shelf.book.put(entry("m"))
    shelf.book.put(entry("n"))
    shelf.book.remove("m")
    assert shelf.models == ["file-a", "file-b", "n"]
    assert list(shelf.reopen().catalogue.entries) == ["file-a", "file-b", "n"]
    with pytest.raises(ModelUnknown):
        shelf.book.remove("m")


def test_all_entries_made_by_call_are_replaced_at_once(shelf):
    shelf.book.put(entry("m"))
    # Each alone would be refused: they name one another.
    shelf.book.replace([entry("x", fallbacks=("y",)), entry("y", aliases=["z"])])
    assert shelf.models == ["file-a", "file-b", "x", "y"]
    shelf.book.replace([])
    assert shelf.models == ["file-a", "file-b"]
    assert shelf.reopen().catalogue == shelf.book.catalogue


@pytest.mark.parametrize(
    "change",
    [
        lambda book: book.put(entry("file-b", slots=1)),
        lambda book: book.remove("file-b"),
        lambda book: book.replace([entry("x"), entry("file-b")]),
    ],
)
def test_an_entry_of_the_file_is_changed_in_the_file(shelf, change):
    with pytest.raises(CatalogueConflict) as refused:
        change(shelf.book)
    assert refused.value.message == "'file-b' is an entry of helexa.toml:20; change it there."
    assert (refused.value.status, refused.value.code) == (409, "catalogue_conflict")
    assert shelf.models == ["file-a", "file-b"]
    assert not (shelf.home / KEPT_FILE).exists()


@pytest.mark.parametrize(
    ("bad", "words", "param"),
    [
        (entry("../m"), "../m.id: '../m' cannot name a model", "id"),
        (entry("m", fallbacks=("gone",)), "m.fallbacks[0]: 'gone' is neither", "fallbacks[0]"),
        (entry("m", aliases=["file-a"]), "m.aliases[0]: 'file-a' is the id", "aliases[0]"),
        (entry("m", source="x:y"), "m.source: 'x:y' is not a source", "source"),
        # What its type would not let through a door must not get onto the disk either.
        (entry("m", slots=0), "cannot be kept: Expected `int` >= 1", None),
        (entry("m", max_wait_s=float("nan")), "another one once it is read again", None),
    ],
)
def test_what_is_not_sound_is_refused_and_changes_nothing(shelf, bad, words, param):
    shelf.book.put(entry("n"))
    before, raw = shelf.book.catalogue, (shelf.home / KEPT_FILE).read_bytes()
    with pytest.raises(RequestRejected) as refused:
        shelf.book.put(bad)
    assert words in refused.value.message
    assert (refused.value.status, refused.value.param) == (400, param)
    assert shelf.book.catalogue is before
    assert (shelf.home / KEPT_FILE).read_bytes() == raw


def test_an_entry_that_others_name_cannot_go(shelf):
    shelf.book.put(entry("small"))
    shelf.book.put(entry("big", fallbacks=("small",)))
    with pytest.raises(CatalogueConflict) as refused:
        shelf.book.remove("small")
    assert "big.fallbacks[0]: 'small' is neither a model" in refused.value.message
    shelf.book.remove("big")
    shelf.book.remove("small")


def test_a_new_entry_may_not_take_the_name_of_an_alias_of_the_file(shelf):
    with pytest.raises(CatalogueConflict) as refused:
        shelf.book.put(entry("chat"))
    assert "file-a.aliases[0]: 'chat' is the id of a model" in refused.value.message


def test_of_very_many_faults_some_are_told_and_the_rest_counted(shelf):
    with pytest.raises(RequestRejected, match="; and 5 more"):
        shelf.book.replace([entry(f"m{at}", source="x:") for at in range(25)])


# --- the disk


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b'{"version": 1, "entries": [', "truncated"),
        (b"\x00\xff", "malformed"),
        (b"[]", "Expected `object`"),
        (b'{"version": 2, "entries": []}', "it is of version 2; this build reads 1"),
        (b'{"version": 1, "entries": [{"id": "m", "slots": 0}]}', "Expected `int` >= 1"),
        (b'{"version": 1, "entries": [{"id": "m", "sluts": 1}]}', "unknown field `sluts`"),
        (b'{"version": 1, "entries": [{"slots": 1}]}', "missing required field `id`"),
        (b'{"version": 1, "entries": [], "more": 1}', "unknown field `more`"),
        (b"[" * 100_000, "does not hold"),
        (b" " * (16 * 1024 * 1024 + 1), "larger than 16777216 bytes"),
    ],
)
def test_a_damaged_file_is_a_refusal_that_names_it_and_stays(tmp_path, content, words):
    file = tmp_path / KEPT_FILE
    file.write_bytes(content)
    with pytest.raises(HomeUnusable) as refused:
        Book(KeptEntries(file), FixedEntries())
    assert str(refused.value).startswith(f"{file} does not hold the models that were made by call")
    assert words in str(refused.value)
    assert file.read_bytes() == content


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / KEPT_FILE).mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot read {tmp_path / KEPT_FILE}: Is a directory"):
        Book(KeptEntries(tmp_path / KEPT_FILE), FixedEntries())


def test_what_was_kept_and_does_not_go_with_the_file_any_more_is_a_refusal(shelf):
    shelf.book.put(entry("m", fallbacks=("file-b",)))
    shelf.source.say(entry("file-a", aliases=["chat"]))
    with pytest.raises(HomeUnusable) as refused:
        shelf.reopen()
    assert str(refused.value) == (
        f"{shelf.home / KEPT_FILE} and the configuration do not go together:\n"
        "m.fallbacks[0] (made by call): 'file-b' is neither a model of the catalogue nor an alias"
    )


def test_a_disk_that_takes_nothing_changes_nothing(shelf):
    def full(path, content):
        raise OSError(28, "No space left on device")

    shelf.book.put(entry("m"))
    book = shelf.reopen(replace=full)
    with pytest.raises(HomeUnusable, match="No space left on device"):
        book.put(entry("n"))
    assert shelf.models == ["file-a", "file-b", "m"]
    assert list(shelf.reopen().catalogue.entries) == ["file-a", "file-b", "m"]


def _killed_before_the_rename(home: Path) -> None:
    # The seam between the draft, which is on the disk by then, and its taking the file's name.
    Path.replace = lambda _self, _to: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    Shelf(home).book.put(entry("n"))


def test_a_cortex_killed_between_write_and_rename_has_what_it_had(tmp_path):
    Shelf(tmp_path).book.put(entry("m"))
    child = multiprocessing.get_context("fork").Process(
        target=_killed_before_the_rename, args=(tmp_path,)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2, "the draft was written and not renamed"
    shelf = Shelf(tmp_path)
    assert shelf.models == ["m"]
    shelf.book.put(entry("n"))
    assert Shelf(tmp_path).models == ["m", "n"]


def test_a_change_that_was_kept_and_not_answered_any_more_is_there(tmp_path):
    class Killed(BaseException):
        pass

    def kept_and_killed(path, content):
        replace_private(path, content)
        raise Killed

    shelf = Shelf(tmp_path)
    book = shelf.reopen(replace=kept_and_killed)
    with pytest.raises(Killed):
        book.put(entry("m"))
    assert list(shelf.reopen().catalogue.entries) == ["m"]


# --- the file


@pytest.mark.anyio
async def test_a_file_that_changed_is_in_force_after_a_reload(shelf):
    shelf.book.put(entry("m"))
    shelf.source.say(entry("file-c", slots=3), idle_timeout_s=7.0)
    assert shelf.models == ["file-a", "file-b", "m"]
    assert await shelf.book.reload() == ()
    assert shelf.models == ["file-c", "m"]
    assert shelf.book.orchestrator == OrchestratorSettings(idle_timeout_s=7.0)
    assert shelf.told == [2, 3]


@pytest.mark.anyio
async def test_a_file_that_says_the_same_on_other_lines_is_no_change(shelf):
    shelf.source.say(entry("file-a", aliases=["chat"]), entry("file-b"))
    shelf.source.now = shelf.source.now.__class__(
        entries=shelf.source.now.entries, origins=("helexa.toml:1", "helexa.toml:2")
    )
    assert await shelf.book.reload() == ()
    assert (shelf.book.revision, shelf.told) == (1, [])
    assert shelf.book.origin("file-b") == "helexa.toml:2"


@pytest.mark.anyio
async def test_a_broken_file_leaves_the_catalogue_and_is_told_once(shelf, caplog):
    before = shelf.book.catalogue
    shelf.source.say(problems=["helexa.toml:3: cortex.queue_max: -1 is out of range"])
    for _ in range(3):
        assert await shelf.book.reload() == shelf.source.now.problems
    assert shelf.book.catalogue is before
    assert shelf.book.problems == shelf.source.now.problems
    said = [one for one in caplog.records if "stays as it is" in one.getMessage()]
    assert len(said) == 1
    assert [one["event"] for one in shelf.events] == ["catalogue_refused"]
    shelf.source.say(entry("file-a"))
    assert await shelf.book.reload() == ()
    assert shelf.book.problems == ()
    assert shelf.models == ["file-a"]


@pytest.mark.anyio
async def test_a_file_that_takes_away_what_an_entry_made_by_call_names_is_not_taken(shelf):
    shelf.book.put(entry("m", fallbacks=("file-b",)))
    shelf.source.say(entry("file-a"))
    (problem,) = await shelf.book.reload()
    assert problem.startswith("m.fallbacks[0] (made by call): 'file-b' is neither")
    assert "file-b" in shelf.models
    # The call that makes it possible does not need another change of the file.
    shelf.book.remove("m")
    assert await shelf.book.reload() == ()
    assert shelf.models == ["file-a"]


@pytest.mark.anyio
async def test_the_file_comes_first_and_what_stepped_back_is_not_lost(shelf):
    shelf.book.put(entry("m", slots=1))
    shelf.source.say(entry("m", slots=2))
    assert await shelf.book.reload() == ()
    assert shelf.book.catalogue.entries["m"].slots == 2
    assert shelf.book.origin("m") == "helexa.toml:10"
    assert shelf.book.stepped_back == ("m",)
    shelf.book.replace([entry("n")])
    shelf.reopen()
    assert (shelf.models, shelf.book.stepped_back) == (["m", "n"], ("m",))
    shelf.source.say()
    assert await shelf.book.reload() == ()
    assert shelf.book.catalogue.entries["m"].slots == 1
    assert shelf.book.stepped_back == ()


@pytest.mark.anyio
async def test_what_needs_a_restart_is_said_once(shelf, caplog):
    for _ in range(2):
        shelf.source.say(entry("file-a"), stale=["helexa.toml:2: cortex.queue_max"])
        await shelf.book.reload()
    assert shelf.book.stale == ("helexa.toml:2: cortex.queue_max",)
    said = [one for one in caplog.records if "hold after a restart" in one.getMessage()]
    assert len(said) == 1


_IDS = ("a", "b", "c", "d")
_PUT = st.tuples(
    st.just("put"),
    st.builds(
        entry,
        st.sampled_from(_IDS),
        aliases=st.lists(st.sampled_from((*_IDS, "x")), max_size=2),
        fallbacks=st.lists(st.sampled_from((*_IDS, "x")), max_size=2).map(tuple),
    ),
)
_REMOVE = st.tuples(st.just("remove"), st.sampled_from(_IDS))
_REOPEN = st.tuples(st.just("reopen"), st.none())


@given(steps=st.lists(_PUT | _REMOVE | _REOPEN, max_size=12))
def test_whatever_is_called_the_disk_has_what_is_in_force(tmp_path_factory, steps):
    shelf = Shelf(tmp_path_factory.mktemp("home"), entry("d", aliases=["x"]))
    for word, what in steps:
        before, revision = shelf.book.catalogue, shelf.book.revision
        if word == "reopen":
            shelf.reopen()
            assert shelf.book.catalogue == before
            continue
        try:
            shelf.book.put(what) if word == "put" else shelf.book.remove(what)
        except (RequestRejected, ModelUnknown):
            assert shelf.book.catalogue is before
            assert shelf.book.revision == revision
        kept = Book(KeptEntries(shelf.home / KEPT_FILE), Source(entry("d", aliases=["x"])))
        assert kept.catalogue == shelf.book.catalogue


def test_the_kept_file_can_be_read_by_people(shelf):
    shelf.book.put(entry("m", slots=2))
    found = json.loads((shelf.home / KEPT_FILE).read_text())
    assert found["version"] == 1
    assert found["entries"][0]["slots"] == 2
