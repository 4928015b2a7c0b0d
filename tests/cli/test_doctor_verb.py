"""`helexa doctor`: each trouble is found, explained, and comes with what helps."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from helexa.cli.entry import enter
from helexa.neuron.models.store import DEMO_FOLDER

Findings = dict[str, list[dict[str, str]]]


def examined(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Findings]:
    """Exit status, and findings by subject."""
    status = enter(["doctor", "--json", "--set", "neuron.api_socket=127.0.0.1:0", *argv])
    found: Findings = {}
    for one in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(one["about"], []).append(one)
    return status, found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_machine_without_trouble_passes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = examined(capsys, "--home", str(home))
    assert status == 0
    assert not home.exists(), "looking changes nothing"
    assert {one["level"] for some in found.values() for one in some} <= {"ok", "warning"}
    assert found["packages"][0]["level"] == "ok"


def test_a_refused_setting_is_found_and_the_rest_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text("[cortex]\nqueue_max = 'many'\n")
    status, found = examined(capsys, "--config", str(file))
    assert status == 1
    assert f"{file}:2: cortex.queue_max" in found["config"][0]["what"]
    assert found["config"][0]["fix"] == "helexa config show --origin"


def test_a_taken_socket_is_found_with_its_holder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        setting = f"cortex.gateway_socket={address}"
        status, found = examined(capsys, "--home", str(home), "--set", setting)
    assert status == 1
    (taken,) = [one for one in found["sockets"] if one["level"] == "error"]
    assert address in taken["what"]
    assert f"(pid {os.getpid()})" in taken["what"]


def test_a_secret_that_others_can_read_is_found(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = home / "neuron" / "node.key"
    key.parent.mkdir(parents=True)
    key.write_text("secret")
    key.chmod(0o644)
    status, found = examined(capsys, "--home", str(home))
    assert status == 1
    assert found["secrets"][0]["fix"] == f"chmod 600 {key}"


def test_a_home_that_is_a_file_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").write_text("")
    status, found = examined(capsys, "--home", str(tmp_path / "home"))
    assert status == 1
    assert found["home"][0]["level"] == "error"


def test_models_are_read_and_weighed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = home / "models"
    models.mkdir(parents=True)
    demo = DEMO_FOLDER / "helexa-demo.gguf"
    shutil.copy(demo, models / "whole.gguf")
    (models / "cut.gguf").write_bytes(demo.read_bytes()[:1000])
    (models / "text.gguf").write_text("this is not a model")
    limit = "neuron.memory_limit=100KiB"
    status, found = examined(capsys, "--home", str(home), "--set", limit)
    assert status == 0, "the neuron starts and serves what it can"
    said = [one["what"] for one in found["models"]]
    assert said[0].endswith("1 can be read")
    assert any(one.startswith("cut: it is truncated") for one in said)
    assert any(one.startswith("text: ") for one in said)
    assert any(one.startswith("whole needs ") and "100.0 KiB is free" in one for one in said)


def test_a_node_that_does_not_answer_is_found(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "cortex"
    folder.mkdir(parents=True)
    facts = {"pid": os.getpid(), "gateway_url": "http://127.0.0.1:1"}
    (folder / "run.json").write_text(json.dumps(facts))
    status, found = examined(capsys, "--home", str(home))
    assert status == 1
    assert "does not answer" in found["cortex"][0]["what"]


def test_people_get_marks_and_fixes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = home / "neuron" / "node.key"
    key.parent.mkdir(parents=True)
    key.write_text("secret")
    key.chmod(0o644)
    assert enter(["doctor", "--home", str(home), "--set", "neuron.api_socket=127.0.0.1:0"]) == 1
    said = capsys.readouterr()
    assert "FAIL  secrets" in said.out
    assert f"fix: chmod 600 {key}" in said.out
    assert said.err == ""
