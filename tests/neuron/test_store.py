"""The models folder as it is, was, and is attacked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest

from helexa.neuron.models.digests import Digests
from helexa.neuron.models.listing import list_models
from helexa.neuron.models.store import DEMO_FOLDER, ModelStore
from helexa.protocol.errors import ModelUnknown, NoCapacity
from helexa.protocol.ids import ModelId
from helexa.testing import tiny_gguf

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


def store_of(folder: Path, tmp_path: Path, demo: Path | None = None) -> ModelStore:
    return ModelStore(folder, Digests(tmp_path / "digests.json"), demo_folder=demo)


def test_names_make_models_projectors_and_parts(folder: Path) -> None:
    for name in (
        "a.gguf",
        "a.mmproj.gguf",
        "org/b.gguf",
        "org/mmproj-b.gguf",
        "big-00002-of-00002.gguf",
        "big-00001-of-00002.gguf",
        "half-00001-of-00002.gguf",
        "notes.txt",
        ".hidden.gguf",
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    listing = list_models(folder)
    assert sorted(listing.models) == ["a", "big", "org/b"]
    assert listing.models[ModelId("a")].projector is not None
    assert listing.models[ModelId("org/b")].projector is not None
    assert [part.path.name for part in listing.models[ModelId("big")].parts] == [
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
    ]
    assert listing.refused == {"half": "1 of its 2 parts are missing"}


def test_a_name_that_could_climb_or_confuse_is_refused(folder: Path) -> None:
    for name in ("a..b.gguf", "my model.gguf", "-x.gguf"):
        (folder / name).write_bytes(b"x")
    (folder / "1/2/3/4").mkdir(parents=True)
    (folder / "1/2/3/ok.gguf").write_bytes(b"x")
    (folder / "1/2/3/4/deep.gguf").write_bytes(b"x")
    listing = list_models(folder)
    assert list(listing.models) == ["1/2/3/ok"]
    assert sorted(listing.refused) == ["-x", "a..b", "my model"]
    assert "cannot be a model's" in listing.refused["my model"]


def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(b"x")
    (folder / "out.gguf").symlink_to(secret)
    (folder / "gone.gguf").symlink_to(folder / "nothing")
    (folder / "real.gguf").write_bytes(b"x")
    (folder / "in.gguf").symlink_to(folder / "real.gguf")
    (folder / "loop").symlink_to(folder)
    listing = list_models(folder)
    assert sorted(listing.models) == ["in", "real"]
    assert "outside the models folder" in listing.refused["out"]
    assert "cannot be read" in listing.refused["gone"]


def test_a_pipe_is_no_model(folder: Path) -> None:
    os.mkfifo(folder / "pipe.gguf")
    assert "not a regular file" in list_models(folder).refused["pipe"]


async def test_broken_files_are_shown_with_the_reason(folder: Path, tmp_path: Path) -> None:
    good = tiny_gguf.write(folder / "good.gguf")
    (folder / "cut.gguf").write_bytes(good.read_bytes()[:-100])
    (folder / "page.gguf").write_bytes(b"<html>not found</html>" * 9)
    store = store_of(folder, tmp_path)
    assert await store.scan()
    assert list(store.models) == ["good"]
    assert "truncated" in store.failed["cut"]
    assert "no GGUF file" in store.failed["page"]
    with pytest.raises(NoCapacity, match="truncated"):
        store.get("cut")
    with pytest.raises(ModelUnknown):
        store.get("../models/good")


async def test_a_file_that_arrives_is_found_when_it_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    store = store_of(folder, tmp_path)
    await store.scan()
    tiny_gguf.write(folder / "new.gguf")
    files, changed = await store.find("new")
    assert files.model == "new"
    assert changed


async def test_changes_are_noticed_and_what_did_not_change_is_not_opened_again(
    folder: Path, tmp_path: Path
) -> None:
    store = store_of(folder, tmp_path)
    path = tiny_gguf.write(folder / "a.gguf", context_tokens=64)
    await store.scan()
    before = store.get("a")
    assert not await store.scan()
    assert store.get("a") is before
    tiny_gguf.write(path, context_tokens=128)
    os.utime(path, ns=(1, 1))
    assert await store.scan()
    assert store.get("a").context_tokens_trained == 128
    path.unlink()
    assert await store.scan()
    with pytest.raises(ModelUnknown):
        store.get("a")


async def test_the_operators_model_wins_over_the_demo_of_the_same_name(
    folder: Path, tmp_path: Path
) -> None:
    demo = tmp_path / "demo"
    tiny_gguf.write(demo / "x.gguf", context_tokens=64)
    tiny_gguf.write(demo / "y.gguf", context_tokens=64)
    tiny_gguf.write(folder / "x.gguf", context_tokens=128)
    store = store_of(folder, tmp_path, demo)
    await store.scan()
    assert store.get("x").context_tokens_trained == 128
    assert store.get("y").context_tokens_trained == 64


async def test_a_folder_that_vanishes_is_a_reason_and_no_crash(
    folder: Path, tmp_path: Path
) -> None:
    store = store_of(folder / "gone", tmp_path)
    await store.scan()
    assert "folder cannot be read" in store.failed["gone"]


async def test_the_digest_is_what_sha256sum_says_and_is_remembered(
    folder: Path, tmp_path: Path
) -> None:
    path = tiny_gguf.write(folder / "a.gguf")
    expected = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    store = store_of(folder, tmp_path)
    await store.scan()
    assert store.digest(ModelId("a")) == ""
    await store.compute_digest(ModelId("a"))
    assert store.digest(ModelId("a")) == expected

    class Unreadable(Digests):
        def _hash(self, paths: object) -> str:
            raise AssertionError("hashed again")

    again = ModelStore(folder, Unreadable(tmp_path / "digests.json"), demo_folder=None)
    await again.scan()
    await again.compute_digest(ModelId("a"))
    assert again.digest(ModelId("a")) == expected
    os.utime(path, ns=(5, 5))
    await store.scan()
    assert store.digest(ModelId("a")) == ""


async def test_other_projectors_make_other_models(folder: Path, tmp_path: Path) -> None:
    tiny_gguf.write(folder / "a.gguf")
    digests = set()
    for seed in (1, 2):
        tiny_gguf.write(folder / "a.mmproj.gguf", seed=seed)
        store = store_of(folder, tmp_path)
        await store.scan()
        await store.compute_digest(ModelId("a"))
        digests.add(store.digest(ModelId("a")))
    assert len(digests) == 2


async def test_leaving_the_block_ends_a_hash_in_the_making(folder: Path, tmp_path: Path) -> None:
    tiny_gguf.write(folder / "a.gguf")
    digests = Digests(tmp_path / "digests.json")
    async with digests.running():
        pass
    store = ModelStore(folder, digests, demo_folder=None)
    await store.scan()
    with anyio.fail_after(10):
        await store.compute_digest(ModelId("a"))
    assert store.digest(ModelId("a")) == ""


async def test_the_bundled_models_can_be_read(folder: Path, tmp_path: Path) -> None:
    store = store_of(folder, tmp_path, DEMO_FOLDER)
    await store.scan()
    assert store.failed == {}
    assert ModelId("helexa-demo") in store.models
