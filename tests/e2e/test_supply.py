"""A model that is nowhere yet, asked for by a plain client: pulled, loaded, served."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.fleet import CHAT, DEMO, Fleet, fleet, question_to, said
from tests.e2e.processes import until
from tests.e2e.raw import asked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BYTES_PER_S = 400_000
"""The demo model then takes more than three seconds to come."""
CATALOGUE = """
[[models]]
id = "far"
source = "hf:tests/all"
aliases = ["distant"]
"""


class FarHub:
    """A hub in a process of its own that has the demo model as `far.gguf`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.url = str(self._line()["url"])

    def sent(self) -> int:
        """Bytes of the weights that left it."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return int(self._line()["sent"].get("far.gguf", 0))

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


@contextmanager
def far_hub(folder: Path) -> Iterator[FarHub]:
    files = folder / "hub"
    files.mkdir()
    shutil.copy(DEMO, files / "far.gguf")
    argv = (sys.executable, "-m", "helexa.testing.hub", str(files), "--rate", str(BYTES_PER_S))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield FarHub(process)
        finally:
            process.kill()


@contextmanager
def far_fleet(folder: Path) -> Iterator[Fleet]:
    """A cortex that need not wait for neurons which had the model before."""
    file = folder / "helexa.toml"
    file.write_text(CATALOGUE)
    with fleet(folder, ("orchestrator.settle_s=0",), config=file) as made:
        yield made


def comments_and_answer(made: Fleet, model: str) -> tuple[list[str], str]:
    comments, text = [], ""
    body = question_to(model, stream=True)
    with asked(made.url, CHAT, body, key=made.key, timeout_s=120) as response:
        assert response.status == 200
        while line := response.readline():
            if line.startswith(b":"):
                comments.append(line.decode())
            elif line.startswith(b"data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                for choice in event["choices"]:
                    text += choice["delta"].get("content") or ""
    return comments, text


def test_a_stream_sees_its_model_come_from_the_hub_and_then_the_answer(tmp_path: Path) -> None:
    with far_hub(tmp_path) as hub, far_fleet(tmp_path) as made:
        made.start_neuron("left", (), "--set", f"neuron.hub={hub.url}")
        comments, text = comments_and_answer(made, "distant")
        assert text.startswith("helexa is a federated AI fabric")
        assert any("downloading" in one and "bytes" in one for one in comments), comments
        status, body = made.chat("far")
        assert status == 200
        assert said(body) == text


def test_a_cortex_killed_during_a_pull_and_a_wait_ends_where_it_would_have(tmp_path: Path) -> None:
    with far_hub(tmp_path) as hub, far_fleet(tmp_path) as made:
        made.start_neuron("left", (), "--set", f"neuron.hub={hub.url}")
        headers = {"x-helexa-max-wait": "1"}
        body = question_to("far")
        with asked(made.url, CHAT, body, key=made.key, headers=headers) as response:
            assert response.status == 503
            error = json.loads(response.read())["error"]
        assert error["code"] == "model_loading"
        until(made.states, lambda found: found.get(("left", "far")) == "downloading")
        made.cortex.stop(9)
        made.start_cortex()
        until(made.present, missing=made.cortex.log)
        status, answer = made.chat("far")
        assert status == 200, answer
        assert made.states() == {("left", "far"): "loaded"}
        assert hub.sent() == DEMO.stat().st_size, "nothing was pulled twice"


def test_a_neuron_killed_during_a_pull_goes_on_with_it(tmp_path: Path) -> None:
    with far_hub(tmp_path) as hub, far_fleet(tmp_path) as made:
        far = ("--set", f"neuron.hub={hub.url}")
        node = made.start_neuron("left", (), *far)
        made.control("/api/v1/models/far/pull", {"node": "left"})
        until(made.states, lambda found: found.get(("left", "far")) == "downloading")
        node.stop(9)
        made.start_neuron("left", (), *far)
        # Nobody asks again: the neuron knows what it was told to have.
        until(made.states, lambda found: found.get(("left", "far")) == "unloaded")
        assert made.chat("far")[0] == 200
