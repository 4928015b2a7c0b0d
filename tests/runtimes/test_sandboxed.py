"""A heavy engine of another environment, inside bubblewrap: it finds all that it needs there."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import psutil
import pytest
from tests.neuron.conftest import bubblewrap
from tests.neuron.test_app import api, ask, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import running
from helexa.neuron.settings import ModelSettings, RuntimeSettings

__all__ = ["bubblewrap"]

pytestmark = pytest.mark.anyio

WITHIN_S = 300.0
MODEL = "helexa-demo"


async def test_transformers_serves_from_inside(
    bubblewrap: None, tmp_path: Path, models_dir: Path, transformers_python: Path
) -> None:
    chosen = settings(
        tmp_path,
        models_dir,
        sandbox="bubblewrap",
        context_tokens=256,
        runtimes={"transformers": RuntimeSettings(python=transformers_python)},
        models={MODEL: ModelSettings(runtime="transformers")},
    )
    transports = {"memory": MemoryNetwork().open_transport}
    body = {"model": MODEL, "prompt": "a", "max_tokens": 3, "temperature": 0}
    with anyio.fail_after(WITHIN_S):
        async with running(chosen, open_transports=transports) as neuron, api(neuron) as client:
            await neuron.roster.load(MODEL)
            answered = await ask(client, "POST", "/v1/completions", json.dumps(body).encode())
            assert answered.status == 200
            assert answered.json["usage"]["completion_tokens"] == 3
            members = psutil.Process().children(recursive=True)
            worker = next(one for one in members if str(transformers_python) in one.cmdline()[:1])
            root = Path(f"/proc/{worker.pid}/root")
            assert not (root / str(chosen.home / "node.key").lstrip("/")).exists()
        assert not [one for one in members if one.is_running() and one.status() != "zombie"]
