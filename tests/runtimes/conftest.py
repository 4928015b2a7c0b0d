"""Engines and models that `make test-runtimes` has made; a missing one fails what needs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
