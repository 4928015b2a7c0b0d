"""`helexa doctor`: each trouble is found, explained, and comes with what helps."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.util.certificates import Authority

from helexa.cli.checkup import NATIVE
from helexa.cli.entry import enter
from helexa.cli.mesh_checkup import of_status
from helexa.neuron.models.store import DEMO_FOLDER

Findings = dict[str, list[dict[str, str]]]


def examined(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Findings]:
    """Exit status, and findings by subject."""
    status = enter(["doctor", "--json", "--set", "neuron.api_socket=127.0.0.1:0", *argv])
    found: Findings = {}
    for one in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(one["about"], []).append(one)
    return status, found


@contextmanager
def held_udp() -> Iterator[str]:
    """An address whose UDP half is taken within the block, and that is wholly free after it.

    Below the ports that the system hands out by itself, of which one that was free a moment ago
    may be anybody's.
    """
    for port in random.sample(range(20_000, 30_000), 100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            tcp.close()
            yield f"127.0.0.1:{port}"
            return
    raise AssertionError("no free port")


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


def test_a_model_set_to_what_is_not_here_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = home / "models"
    models.mkdir(parents=True)
    shutil.copy(DEMO_FOLDER / "helexa-demo.gguf", models / "whole.gguf")
    file = home / "helexa.toml"
    file.write_text('[neuron.models.whole]\ndevices = ["GPU-elsewhere"]\n')
    _, found = examined(capsys, "--home", str(home), "--config", str(file))
    (warning,) = [one for one in found["models"] if one["level"] == "warning"]
    assert warning["what"].startswith("whole: it is set to the device 'GPU-elsewhere', ")


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


def test_a_mesh_port_is_tried_for_each_protocol_that_needs_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_udp() as address:
        setting = ("--home", str(home), "--set", f"cortex.mesh_socket={address}")
        status, found = examined(capsys, *setting, "--set", "mesh.transports=iroh")
    assert status == 1
    (taken,) = found["mesh port"]
    assert taken["what"].startswith("UDP: ")
    assert f"cannot listen on {address}" in taken["what"]
    status, found = examined(capsys, *setting)
    assert found["mesh port"][0]["what"].startswith(f"{address} is free")


def test_certificates_are_looked_at_as_the_node_would(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--home", str(home))
    assert enter(["operator", "init", "--name", "ann", *where]) == 0
    assert enter(["operator", "sign", "cortex", *where]) == 0
    assert enter(["operator", "sign", "neuron", "--days", "3", *where]) == 0
    capsys.readouterr()
    status, found = examined(capsys, *where)
    assert status == 0
    assert [one["level"] for one in found["certificate"]] == ["ok", "warning"]
    assert "the cortex is ann's until" in found["certificate"][0]["what"]
    assert "helexa operator sign" in found["certificate"][1]["fix"]
    (home / "cortex" / "node.cert").write_text("nonsense")
    status, found = examined(capsys, *where)
    assert status == 1
    assert found["certificate"][0]["level"] == "error"
    assert str(home / "cortex" / "node.cert") in found["certificate"][0]["what"]


def test_a_policy_that_would_keep_the_cortex_from_starting_is_found(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--home", str(home))
    assert enter(["mesh", "policy", "set", "lend_to=own", *where]) == 0
    capsys.readouterr()
    status, found = examined(capsys, *where)
    assert (status, found["policy"][0]["what"]) == (0, "changed by `helexa mesh policy`: lend_to")
    file = home / "cortex" / "federation.json"
    file.write_text('{"hops_max": 99}')
    status, found = examined(capsys, *where)
    assert status == 1
    assert found["policy"][0]["what"].startswith(f"{file}: federation.hops_max: 99 is out of range")


def test_what_the_mesh_says_of_this_cortex_is_found() -> None:
    def about(**facts: object) -> list[tuple[str, str, str]]:
        return [(one.level, one.about, one.what) for one in of_status(dict(facts))]

    assert about(members={"alive": 2, "dead": 1}) == [("ok", "mesh", "2 peers alive, 1 dead")]
    assert about(joined=False)[0][0] == "warning"
    assert ("warning", "mesh", "3 wait to be let in") in about(pending=3)
    assert ("ok", "mesh", "2 operators or nodes are denied") in about(denied=2)
    assert about(clock_off_s=5.0) == about()
    (_, clock) = about(clock_off_s=-7200.0)
    assert clock[0] == "error"
    assert "2h 0m behind most other cortexes" in clock[2]


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


def test_the_packages_that_are_looked_at_are_those_that_are_installed_for_people():
    """Tests have more installed than a user has."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", one)[0] for one in project["dependencies"]}
    found = packages_distributions()
    for module in NATIVE:
        assert {name.lower() for name in found[module]} & needed, f"{module} is nobody's dependency"


class Models(BaseHTTPRequestHandler):
    """A server with one model."""

    def do_GET(self) -> None:
        body = b'{"object":"list","data":[{"id":"there"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The test's output is the command's."""


def test_servers_are_asked_as_the_neuron_will_ask_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "helexa.toml"
    with HTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        file.write_text(
            f'[neuron.servers.up]\nurl = "{url}"\n'
            f'[neuron.servers.lacks]\nurl = "{url}"\nmodels = {{ a = "b" }}\n'
            '[neuron.servers.down]\nurl = "http://127.0.0.1:9/v1"\n'
        )
        status, found = examined(capsys, "--config", str(file), "--home", str(tmp_path / "home"))
        server.shutdown()
    up, lacks, down = found["servers"]
    assert status == 0
    assert (up["level"], up["what"]) == ("ok", "up: 1 models")
    assert (lacks["level"], lacks["what"]) == (
        "warning",
        "a: the server lacks has no model 'b'",
    )
    assert down["level"] == "warning"
    assert "down: it cannot be reached (127.0.0.1:9" in down["what"]


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (90, "ok", "gateway.test; until"),
        (3, "warning", "expires on"),
        (-1, "warning", "expired on"),
    ],
)
def test_the_end_of_the_gateways_certificate_is_told(
    days: int,
    level: str,
    words: str,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = Authority(tmp_path).files(days=days)
    files.key.chmod(0o600)
    pair = (
        *("--set", f"cortex.gateway_tls_cert={files.certificate}"),
        *("--set", f"cortex.gateway_tls_key={files.key}"),
    )
    _, found = examined(capsys, "--home", str(home), *pair)
    assert [(one["level"], words in one["what"]) for one in found["certificate"]] == [(level, True)]
