"""The catalogue's calls: what is in force, what changes it, and what watchers are told of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cortex.asking import ask
from tests.cortex.books import Shelf, entry
from tests.cortex.fleets import capability, descriptor

from helexa.cortex.orchestrator import policies
from helexa.cortex.orchestrator.api import application
from helexa.cortex.orchestrator.fleet import NeuronRegistered
from helexa.cortex.orchestrator.neurons import Neurons
from helexa.cortex.orchestrator.news import News
from helexa.cortex.orchestrator.observe import CatalogueNews, Log
from helexa.cortex.orchestrator.reception import Timing

pytestmark = pytest.mark.anyio

TOKEN = "hx_admin_of_this_test"
AT = "/api/v1/catalogue"


async def no_keys() -> Any:
    raise AssertionError("nobody asks for keys here")


class Snap(News, frozen=True, kw_only=True, tag="snapshot"):
    """Stands for all that there is."""


class World:
    """A book whose file has the entry `of-file`, and a neuron that holds `m`."""

    def __init__(self, home: Path) -> None:
        self.shelf = Shelf(home, entry("of-file", description="written"))
        self.neurons = Neurons(
            policy=policies.named("least_loaded"),
            timing=Timing(1, 4),
            name="",
            monotonic=time.monotonic,
            random=random.random,
            catalogue=lambda: self.shelf.book.catalogue,
        )
        held = capability("m")
        self.neurons.post(
            NeuronRegistered(descriptor=descriptor(1), capabilities=(held,), now_s=0.0)
        )
        self.app = application(
            admin_token=TOKEN,
            neurons=self.neurons,
            keys=no_keys,
            status=dict,
            book=self.shelf.book,
        )

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {TOKEN}"}
        return await ask(self.app, method, path, body, headers=headers)


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_an_entry_is_made_shown_changed_and_taken_out(here: World) -> None:
    status, said = await here.ask("PUT", f"{AT}/a/b", {"source": "hf:a/b", "replicas_min": 1})
    assert (status, said["created"], said["entry"]["id"]) == (200, True, "a/b")
    assert here.shelf.models == ["of-file", "a/b"]
    _, said = await here.ask("PUT", f"{AT}/a/b", {"id": "a/b", "priority": 5})
    assert (said["created"], said["entry"]["priority"], said["entry"]["source"]) == (False, 5, "")
    _, said = await here.ask("GET", AT)
    assert [(one["entry"]["id"], one["origin"]) for one in said["entries"]] == [
        ("of-file", "helexa.toml:10"),
        ("a/b", "made by call"),
    ]
    assert (await here.ask("GET", f"{AT}/a/b"))[1]["entry"]["priority"] == 5
    assert (await here.ask("DELETE", f"{AT}/a/b"))[1] == {"removed": "a/b"}
    assert here.shelf.models == ["of-file"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", f"{AT}/nope", None, 404, "entry_not_found"),
        ("DELETE", f"{AT}/nope", None, 404, "entry_not_found"),
        ("DELETE", f"{AT}/of-file", None, 409, "catalogue_conflict"),
        ("PUT", f"{AT}/of-file", {}, 409, "catalogue_conflict"),
        ("PUT", f"{AT}/a", {"id": "b"}, 400, "bad_request"),
        ("PUT", f"{AT}/a", {"slots": 0}, 400, "invalid_body"),
        ("PUT", f"{AT}/a", {"slotz": 1}, 400, "invalid_body"),
        ("PUT", f"{AT}/a", {"source": "ftp://x"}, 400, "bad_request"),
        ("PUT", f"{AT}/a", {"fallbacks": ["nobody"]}, 400, "bad_request"),
        ("PUT", f"{AT}/..a", {}, 400, "bad_request"),
        ("POST", "/api/v1/models/nope/import", None, 404, "model_not_found"),
        ("POST", "/api/v1/models/m/import", {"x": 1}, 400, "invalid_body"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    here: World, method: str, path: str, body: Any, status: int, code: str
) -> None:
    before = here.shelf.book.catalogue
    said = await here.ask(method, path, body)
    assert (said[0], said[1]["error"]["code"]) == (status, code)
    assert here.shelf.book.catalogue is before


async def test_what_a_neuron_has_becomes_an_entry(here: World) -> None:
    status, said = await here.ask("POST", "/api/v1/models/m/import")
    assert (status, said["entry"]["id"], said["entry"]["slots"]) == (200, "m", 4)
    _, row = await here.ask("GET", "/api/v1/models/m")
    assert (row["in_catalogue"], row["state"]) == (True, "loaded")


async def test_the_file_is_read_again_and_its_problems_are_told(here: World) -> None:
    here.shelf.source.say(entry("of-file"), entry("new"))
    assert (await here.ask("POST", f"{AT}/reload"))[1]["problems"] == []
    assert here.shelf.models == ["of-file", "new"]
    here.shelf.source.say(problems=("helexa.toml:3: no such setting",))
    assert (await here.ask("POST", f"{AT}/reload"))[1]["problems"]
    assert here.shelf.models == ["of-file", "new"]
    _, said = await here.ask("POST", f"{AT}/check")
    assert [one["message"] for one in said["problems"]] == ["helexa.toml:3: no such setting"]


async def test_entries_are_judged_among_the_others_without_being_put(here: World) -> None:
    wished = {"entries": [{"id": "a", "fallbacks": ["of-file"]}, {"id": "b", "fallbacks": ["c"]}]}
    _, said = await here.ask("POST", f"{AT}/check", wished)
    assert [(one["id"], one["where"]) for one in said["problems"]] == [("b", "fallbacks[0]")]
    assert here.shelf.models == ["of-file"]


async def test_watchers_are_told_which_entries_changed(here: World) -> None:
    log = Log(epoch="e", monotonic=time.monotonic, unix=time.time)
    here.shelf.book.watch(CatalogueNews(here.shelf.book, log).changed)
    with log.watching("", Snap) as watcher:
        await watcher.read()
        await here.ask("PUT", f"{AT}/a", {})
        await here.ask("PUT", f"{AT}/a", {"priority": 1})
        await here.ask("DELETE", f"{AT}/a")
        told = [json.loads(item.data) for item in await watcher.read()]
    assert [(one["event"], one["changed"], one["entries"]) for one in told] == [
        ("catalogue_changed", ["a"], 2),
        ("catalogue_changed", ["a"], 2),
        ("catalogue_changed", ["a"], 1),
    ]
