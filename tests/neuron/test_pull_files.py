"""`file:` sources: what lies on the neuron's own disk, and what of it nobody may have."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tests.neuron.supplies import is_here, noise, supplied, tiny

from helexa.neuron.models.supply.records import Stage
from helexa.neuron.models.supply.sources import file as source
from helexa.protocol.messages import SourceFile

pytestmark = pytest.mark.anyio


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.mkdir()
    return made


async def test_a_file_of_an_allowed_folder_costs_no_second_copy(
    tmp_path: Path, weights: Path
) -> None:
    path = weights / "w.gguf"
    path.write_bytes(tiny(tmp_path))
    (weights / "w.mmproj.gguf").write_bytes(tiny(tmp_path, seed=2))
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        assert is_here(await supply.pull("w", f"file:{path}"))
        pulled = supply.folder / "w.gguf"
        assert pulled.read_bytes() == path.read_bytes()
        assert (supply.folder / "w.mmproj.gguf").exists()
        assert shares(pulled, path)
        (store, _) = reversed(supply.pulls.of_model("w"))
        assert hashlib.sha256(await store.read(0)).digest() == store.digest(0)
        await supply.pulls.remove("w")
    assert path.exists()


async def test_where_nothing_can_be_shared_it_is_copied(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_cloned", "_linked"):
        monkeypatch.setattr(source, name, lambda _path, _into: False)
    path = weights / "w.gguf"
    path.write_bytes(noise(2.5))
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        assert is_here(await supply.pull("w", f"file://{path}"))
        assert (supply.folder / "w.gguf").read_bytes() == path.read_bytes()
        assert (supply.folder / "w.gguf").stat().st_ino != path.stat().st_ino


async def test_a_wrong_digest_leaves_the_file_that_it_was_taken_from_alone(
    tmp_path: Path, weights: Path
) -> None:
    path = weights / "w.gguf"
    path.write_bytes(noise(1.5))
    declared = (SourceFile(name="w.gguf", sha256="c" * 64),)
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        record = await supply.pull("w", f"file:{path}", files=declared)
        assert record.stage is Stage.FAILED
        assert supply.leftovers() == []
    assert path.read_bytes() == noise(1.5)


async def test_a_share_that_was_not_finished_is_not_written_into(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download would otherwise go on in the middle of somebody's own file."""
    monkeypatch.setattr(source, "_cloned", lambda _path, _into: False)
    path = weights / "w.gguf"
    path.write_bytes(noise(2))
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        await supply.pull("w", f"file:{path}")
        (folder,) = [one for one in supply.folder.glob(".pulls/*") if one.is_dir()]
        (journal,) = folder.glob("*.pieces")
    # Killed after the second name was made and one of two pieces was noted.
    (tmp_path / "models" / "w.gguf").unlink()
    os.link(path, journal.with_suffix(".part"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    record = folder / "record.json"
    record.write_text(record.read_text().replace('"here"', '"wanted"'))
    monkeypatch.setattr(source, "_linked", lambda _path, _into: False)
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        assert is_here(await supply.settled("w"))
        assert (supply.folder / "w.gguf").stat().st_ino != path.stat().st_ino
    assert path.read_bytes() == noise(2)


async def test_what_is_outside_is_refused_and_not_even_said_to_be_there(
    tmp_path: Path, weights: Path
) -> None:
    secret = tmp_path / "secret.gguf"
    secret.write_bytes(tiny(tmp_path))
    (weights / "link.gguf").symlink_to(secret)
    (weights / "folder").symlink_to(tmp_path)
    (tmp_path / "weights-of-others").mkdir()
    (tmp_path / "weights-of-others" / "x.gguf").write_bytes(tiny(tmp_path))
    tried = [
        f"file:{secret}",
        f"file:{weights}/../secret.gguf",
        f"file:{weights}/link.gguf",
        f"file:{weights}/folder/secret.gguf",
        f"file:{tmp_path}/nothing.gguf",
        f"file:{tmp_path}/weights-of-others/x.gguf",
    ]
    reasons = set()
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        for at, one in enumerate(tried):
            record = await supply.pull(f"m{at}", one)
            assert record.stage is Stage.FAILED, one
            reasons.add(record.reason.rpartition("' ")[2])
        assert reasons == {"is no file in a folder that neuron.file_folders allows"}
        relative = await supply.pull("relative", "file:w.gguf")
        assert "no absolute path" in relative.reason
        assert supply.listed == []


async def test_by_default_the_models_folder_alone_is_allowed(tmp_path: Path, weights: Path) -> None:
    (weights / "w.gguf").write_bytes(tiny(tmp_path))
    async with supplied(tmp_path / "models") as supply:
        (supply.folder / "own.gguf").write_bytes(tiny(tmp_path))
        assert is_here(await supply.pull("second", f"file:{supply.folder}/own.gguf"))
        refused = await supply.pull("w", f"file:{weights}/w.gguf")
        assert refused.stage is Stage.FAILED
        (part,) = supply.folder.glob(".pulls/*/*.pieces")
        inside = await supply.pull("inside", f"file:{part}")
        assert "is no file in a folder" in inside.reason


async def test_a_folder_gives_the_variant_that_is_asked_for(tmp_path: Path, weights: Path) -> None:
    for seed, name in enumerate(("a-Q4_K_M.gguf", "a-Q8_0.gguf")):
        (weights / name).write_bytes(tiny(tmp_path, seed=seed))
    async with supplied(tmp_path / "models", file_folders=(weights,)) as supply:
        assert is_here(await supply.pull("a", f"file:{weights}", quantisation="Q8_0"))
        assert (supply.folder / "a.gguf").read_bytes() == (weights / "a-Q8_0.gguf").read_bytes()


def shares(one: Path, other: Path) -> bool:
    """A second name, or a clone, which the link count does not show."""
    return one.stat().st_ino == other.stat().st_ino or other.stat().st_nlink == 1
