"""Fixtures of the neuron's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.neuron.bench import Journal


@pytest.fixture
def journal() -> Iterator[Journal]:
    # Not under tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        made = Journal(Path(folder) / "j")
        yield made
        made.close()
