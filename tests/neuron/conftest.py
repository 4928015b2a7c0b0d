"""Fixtures of the neuron's tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.namespaces import SWITCH
from tests.neuron.bench import Journal


@pytest.fixture
def journal() -> Iterator[Journal]:
    # Not under tmp_path: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        made = Journal(Path(folder) / "j")
        yield made
        made.close()


@pytest.fixture
def bubblewrap() -> None:
    """The program that puts children into namespaces of their own."""
    if os.environ.get("HELEXA_TEST_NAMESPACES", "").upper() == SWITCH:
        pytest.skip("left out by HELEXA_TEST_NAMESPACES")
    if shutil.which("bwrap") is None:
        pytest.fail("Install bubblewrap, or leave this out with HELEXA_TEST_NAMESPACES=off")
