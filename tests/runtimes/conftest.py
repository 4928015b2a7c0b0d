"""Engines and models that `make test-runtimes` has made; a missing one fails what needs it."""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from helexa.testing.conformance import Findings, page

FOUND = pytest.StashKey[dict[str, Findings]]()
"""By runtime, what the conformance suite found in this run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-matrix", action="store_true", help="keep it in docs/runtimes, too")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The matrix as this run found it, and apart from it what failed."""
    looked = dict(config.stash.get(FOUND, {}))
    light = sys.modules.get("tests.runtime.test_conformance")
    if light is not None:
        looked.update({name: light.found(name) for name in light.LOOKS})
    results = {}
    for name, found in looked.items():
        if found.failures or not found.outcomes:
            terminalreporter.write_line(f"\n{found.table()}")
            continue
        cells = page.written(found)
        results[name] = {"engine": found.engine, "models": found.models, "cells": cells}
    if results:
        terminalreporter.write_line(f"\n{page.table(results)}")


def named(variable: str) -> Path:
    """The path in a variable that `scripts/test-runtimes` sets."""
    path = Path(os.environ.get(variable, ""))
    if not path.is_absolute() or not path.exists():
        pytest.fail(
            f"{variable} is {str(path)!r} and has to name what exists: `make test-runtimes`"
        )
    return path


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    return named("HELEXA_TEST_VLLM_PYTHON")


@pytest.fixture(scope="session")
def transformers_python() -> Path:
    return named("HELEXA_TEST_TRANSFORMERS_PYTHON")


@pytest.fixture(scope="session")
def llama_server() -> Path:
    return named("HELEXA_TEST_LLAMA_SERVER")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Of `scripts/runtime_models`: a folder for each model."""
    return named("HELEXA_TEST_MODELS")


@pytest.fixture(scope="session")
def colours() -> dict[str, str]:
    """Pictures of a circle of that colour on white, as data URLs."""
    found = {}
    for colour in ("red", "green", "blue", "yellow", "purple", "black"):
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).ellipse((24, 24, 104, 104), fill=colour)
        file = io.BytesIO()
        image.save(file, "PNG")
        found[colour] = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return found
