"""One cortex and one neuron for all clients: real processes, the real runtime, the demo models."""

from __future__ import annotations

import base64
import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.processes import helexa, started
from tests.runtime_models import made

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-page", action="store_true", help="write docs/clients.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """`picture` is one that the vision model describes by the words in `seen`."""

    url: str
    key: str
    picture: Path
    seen: str


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("clients")
    models = folder / "models"
    models.mkdir()
    shutil.copy(made("tiny-bert") / "tiny-embed-f32.gguf", models)
    picture, seen = drawn(folder / "picture.png")
    home = folder / "home"
    cortex_line = (
        *("cortex", "--home", str(home), "--mesh-socket", "127.0.0.1:0"),
        *("--gateway-socket", "127.0.0.1:0", "--orchestrator-socket", "127.0.0.1:0"),
    )
    neuron_line = (
        *("neuron", "--home", str(home), "--models-dir", str(models)),
        *("--control-socket", "127.0.0.1:0", "--api-socket", "127.0.0.1:0"),
    )
    with started(*cortex_line, cwd=folder) as cortex:
        ticket = str(cortex.ready["ticket"])
        with started(*neuron_line, "--cortex", ticket, cwd=folder) as neuron:
            assert neuron.ready
            cortex.wait_event("neuron_registered")
            key = str(helexa("keys", "create", "clients", home=home)["secret"])
            url = str(cortex.ready["gateway_url"]).removesuffix("/v1")
            yield Gateway(url=url, key=key, picture=picture, seen=seen)


def drawn(path: Path) -> tuple[Path, str]:
    """A picture that was drawn for no lesson, and what is on it."""
    scripts = str(ROOT / "scripts" / "demo_models")
    sys.path.insert(0, scripts)
    try:
        pictures = importlib.import_module("workshop.exam_pictures")
    finally:
        sys.path.remove(scripts)
    (case,) = pictures.picture_cases(1)
    parts = case.body["messages"][0]["content"]
    (url,) = (one["image_url"]["url"] for one in parts if one["type"] == "image_url")
    path.write_bytes(base64.b64decode(url.partition(",")[2]))
    return path, str(case.expected)
