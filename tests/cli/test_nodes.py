"""`helexa cortex` and `helexa neuron` as processes: what they say, and how they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMANDS = {
    "cortex": ["--gateway-socket", "127.0.0.1:0", "--mesh-socket", "127.0.0.1:0"],
    "neuron": ["--api-socket", "127.0.0.1:0", "--control-socket", "127.0.0.1:0"],
}


@contextmanager
def node(role: str, home: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "helexa", role, "--home", str(home), *COMMANDS[role], *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("role", COMMANDS)
def test_a_node_says_once_that_it_serves_and_ends_with_zero(role: str, tmp_path: Path) -> None:
    with node(role, tmp_path, "--json") as process:
        ready = json.loads(first_line(process))
        assert (ready["event"], ready["role"], ready["pid"]) == ("ready", role, process.pid)
        assert len(ready["node_id"]) == 64
        assert ready["ticket"].startswith("helexa")
        served = ready["gateway_url"] if role == "cortex" else ready["api_url"]
        assert served.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert process.returncode == 0
    last = events(rest)[-1]
    assert last == {"event": "stopped", "role": role, "signal": "SIGTERM"}
    assert all(one["event"] != "ready" for one in events(rest))


def test_people_are_told_what_they_need(tmp_path: Path) -> None:
    with node("cortex", tmp_path) as process:
        assert first_line(process) == "cortex is ready; Ctrl-C ends it\n"
        assert first_line(process).startswith("gateway      http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_a_second_node_on_one_home_is_refused_in_one_line(tmp_path: Path) -> None:
    with node("neuron", tmp_path, "--json") as first:
        assert first_line(first)
        with node("neuron", tmp_path) as second:
            out, errors = second.communicate()
        assert first.poll() is None
    assert second.returncode == 1
    assert out == ""
    (line,) = [one for one in errors.splitlines() if one.startswith("helexa: ")]
    assert f"(pid {first.pid})" in line


def test_a_node_whose_reader_left_serves_on_and_ends_well(tmp_path: Path) -> None:
    """The stopped event finds nobody; that must not turn a graceful end into a failure."""
    with node("cortex", tmp_path, "--json") as process:
        assert first_line(process)
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_key_that_others_can_read_is_a_refusal_to_start(tmp_path: Path) -> None:
    with node("cortex", tmp_path, "--json") as process:
        assert first_line(process)
    key = tmp_path / "cortex" / "node.key"
    key.chmod(0o644)
    with node("cortex", tmp_path, "--json") as process:
        out, errors = process.communicate()
    assert process.returncode == 1
    (event,) = events(out)
    assert event["event"] == "error"
    assert f"chmod 600 {key}" in event["message"]
    assert "Traceback" not in errors
    assert key.stat().st_mode & 0o777 == 0o644


def test_a_cortex_reads_its_file_again_at_sighup(tmp_path: Path) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text("[[models]]\nid = 'a'\n")
    with node("cortex", tmp_path, "--json", "--config", str(file)) as process:
        assert json.loads(first_line(process))["event"] == "ready"
        file.write_text("[[models]]\nid = 'a'\n[[models]]\nid = 'b'\n")
        process.send_signal(signal.SIGHUP)
        assert json.loads(first_line(process)) == {
            "event": "catalogue_changed",
            "revision": 2,
            "models": 2,
        }
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert process.returncode == 0
    assert events(rest)[-1]["signal"] == "SIGTERM"


def test_a_catalogue_that_cannot_be_used_keeps_a_cortex_from_starting(tmp_path: Path) -> None:
    (tmp_path / "cortex").mkdir()
    (tmp_path / "cortex" / "catalogue.json").write_text("{")
    with node("cortex", tmp_path) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    (line,) = [one for one in errors.splitlines() if one.startswith("helexa: ")]
    assert f"{tmp_path}/cortex/catalogue.json does not hold the models" in line
