"""One `helexa up` for each file of tests that only asks it things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.processes import ANY_PORTS, Node, started


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("up")
    with started("up", "--home", str(folder / "home"), *ANY_PORTS, cwd=folder) as node:
        assert node.ready
        yield node
