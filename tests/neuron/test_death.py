"""A neuron that is killed takes its children along."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from helexa.testing import tiny_gguf

pytestmark = pytest.mark.e2e

WITHIN_S = 20


@pytest.mark.parametrize("sandbox", ["none", "bubblewrap"])
def test_a_killed_neuron_leaves_no_runtime_behind(
    tmp_path: Path, sandbox: str, request: pytest.FixtureRequest
) -> None:
    """SIGKILL runs no handler; only the kernel can end the child."""
    if sandbox == "bubblewrap":
        request.getfixturevalue("bubblewrap")
    tiny_gguf.write(tmp_path / "models/tiny.gguf")
    neuron = subprocess.Popen(
        (
            *(sys.executable, "-m", "helexa", "neuron", "--json"),
            *("--home", str(tmp_path / "home"), "--models-dir", str(tmp_path / "models")),
            *("--set", f"neuron.sandbox={sandbox}"),
            *("--api-socket", "127.0.0.1:0", "--control-socket", "127.0.0.1:0"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert neuron.stdout is not None
        with neuron.stdout as events:
            ready = next(e for e in map(json.loads, events) if e["event"] == "ready")
            body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
            request = urllib.request.Request(
                f"{ready['api_url']}/v1/completions", json.dumps(body).encode()
            )
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                assert answer.status == 200
            runtimes = psutil.Process(neuron.pid).children(recursive=True)
            assert runtimes
            neuron.kill()
            neuron.wait(WITHIN_S)
        _, alive = psutil.wait_procs(runtimes, timeout=WITHIN_S)
        assert alive == []
    finally:
        neuron.kill()
        neuron.wait(WITHIN_S)
