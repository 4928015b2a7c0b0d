"""The gateway's document under a fuzzer for longer, with models for every kind of work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.fuzzing import fuzz
from tests.e2e.processes import ANY_PORTS, Node, started
from tests.runtime_models import made

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SENSES = ("tiny-embed-f32", "tiny-rerank-f32")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("fuzzed")
    models = folder / "models"
    models.mkdir()
    for name in SENSES:
        shutil.copy(made("tiny-bert") / f"{name}.gguf", models)
    where = ("--home", str(folder / "home"), "--models-dir", str(models))
    with started("up", *where, *ANY_PORTS, cwd=folder) as node:
        assert node.ready
        yield node


def test_a_fuzzer_finds_nothing_in_many_tries(up: Node, tmp_path: Path) -> None:
    models = ("helexa-demo", *SENSES)
    fuzz(up, tmp_path, examples=100, models=models, more=("--max-time", "500"), timeout_s=800)
