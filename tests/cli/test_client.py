"""Talking to a node's control API: what is found, what is refused, and in which words."""

# ruff: noqa: ISC004 - bodies and command lines read best as they would be written.

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helexa.cli.client import Client, Refused, Unreachable, client_of, in_path, running
from helexa.cli.entry import enter
from helexa.cli.verb import Failed

ANSWERS: dict[tuple[str, str], tuple[int, bytes]] = {
    ("GET", "/api/v1/status"): (200, b'{"node_id": "ab", "uptime_s": 75, "models": []}'),
    ("GET", "/api/v1/neurons"): (200, b'{"neurons": []}'),
    ("GET", "/api/v1/models"): (
        200,
        json.dumps(
            {
                "models": [
                    {
                        "model": "helexa-demo",
                        "state": "loaded",
                        "classes": ["chat_interactive", "completion"],
                        "tools": True,
                        "context_tokens": 512,
                        "memory_bytes": 3 << 20,
                        "replicas": 1,
                        "nodes": [{"node": "ab12", "neuron": "attic", "state": "loaded"}],
                    }
                ]
            }
        ).encode(),
    ),
    ("GET", "/api/v1/models/a/b"): (200, b'{"nodes": [{"node": "ab", "state": "loading"}]}'),
    ("GET", "/api/v1/models/bad"): (200, b'{"nodes": []}'),
    ("GET", "/api/v1/models/none"): (
        404,
        b'{"error": {"message": "No model named none.", "code": "model_not_found"}}',
    ),
    ("POST", "/api/v1/models/a/b/load"): (
        200,
        b'{"model": "a/b", "results": [{"node": "ab", "response": {"state": "loaded"}}]}',
    ),
    ("POST", "/api/v1/models/bad/load"): (
        200,
        b'{"model": "bad", "results": [{"node": "ab", "response":'
        b' {"state": "failed", "reason": "not a GGUF"}}]}',
    ),
    ("POST", "/api/v1/models/none/load"): (
        404,
        b'{"error": {"message": "No model named none.", "code": "model_not_found"}}',
    ),
    ("GET", "/api/v1/mesh"): (
        200,
        b'{"node": "ab", "operator": "ab", "members": {"alive": 2}, "pending": 1, "rejected": {}}',
    ),
    ("GET", "/api/v1/mesh/peers"): (200, b'{"peers": []}'),
    ("GET", "/html"): (200, b"<html>"),
    ("GET", "/bare"): (502, b"{}"),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, body = ANSWERS[method, self.path]
        if self.headers.get("authorization") != "Bearer right":
            status, body = 401, b'{"error": {"message": "Admin token, please.", "code": "no"}}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Silence."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, url: str) -> Path:
    """A home whose cortex "runs" as this very process."""
    folder = tmp_path / "cortex"
    folder.mkdir()
    facts = {"pid": os.getpid(), "orchestrator_url": url}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "admin.token").write_text("right\n")
    return tmp_path


def test_a_node_is_found_through_its_home(home: Path) -> None:
    assert client_of("cortex", home, None, None).get("/api/v1/status")["node_id"] == "ab"


def test_a_node_elsewhere_needs_its_url_and_token(tmp_path: Path, url: str) -> None:
    assert client_of("cortex", tmp_path, url + "/", "right").get("/api/v1/status")
    with pytest.raises(Refused, match="Admin token, please"):
        client_of("cortex", tmp_path, url, "wrong").get("/api/v1/status")


def test_no_node_is_a_failure_that_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"no cortex runs on .*helexa up"):
        client_of("cortex", tmp_path, None, None)


def test_a_node_that_died_left_its_facts_and_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"pid": 4194304999}')
    with pytest.raises(Failed, match="damaged"):
        running(tmp_path)
    child = subprocess.Popen(["true"])
    child.wait()
    (tmp_path / "run.json").write_text(json.dumps({"pid": child.pid}))
    assert running(tmp_path) is None


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(Failed, match="damaged"):
        running(tmp_path)


def test_a_cortex_without_an_orchestrator_says_so(tmp_path: Path) -> None:
    (tmp_path / "cortex").mkdir()
    facts = {"pid": os.getpid(), "orchestrator_url": None}
    (tmp_path / "cortex" / "run.json").write_text(json.dumps(facts))
    with pytest.raises(Failed, match="--orchestrator-socket"):
        client_of("cortex", tmp_path, None, None)


def test_silence_and_nonsense_are_told_apart(url: str) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        Client("http://127.0.0.1:1", "").get("/")
    with pytest.raises(Failed, match="not JSON"):
        Client(url, "right").get("/html")
    with pytest.raises(Refused, match="answered 502"):
        Client(url, "right").get("/bare")
    with pytest.raises(Failed, match="is not a URL"):
        Client("localhost:8040", "").get("/")
    with pytest.raises(Failed, match="is not a URL"):
        Client("http://localhost:port", "").get("/")


def test_a_model_s_slash_stays_and_nothing_else_does() -> None:
    assert in_path("team/model 7b?x#y") == "team/model%207b%3Fx%23y"


def test_inspect_goes_without_a_mesh_where_the_cortex_has_no_words_for_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = b'{"error": {"message": "No such path.", "code": "unknown_url"}}'
    monkeypatch.setitem(ANSWERS, ("GET", "/api/v1/mesh"), (404, unknown))
    assert enter(["inspect", "cortex", "--home", str(home)]) == 0
    assert "peers" not in capsys.readouterr().out


def test_models_are_listed_with_units(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enter(["models", "list", "--home", str(home)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["MODEL", "STATE", "REPLICAS", "CAN"]
    assert "helexa-demo" in row
    assert "attic" in row
    assert "chat, completion, tools" in row
    assert "3.0 MiB" in row


def test_a_load_is_told_and_a_failed_one_exits_1(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(["models", "load", "a/b", "--home", str(home)]) == 0
    assert capsys.readouterr().out == "a/b is loaded on ab\n"
    assert enter(["models", "load", "bad", "--home", str(home)]) == 1
    assert capsys.readouterr().out == "bad is failed on ab: not a GGUF\n"
    assert enter(["models", "load", "none", "--home", str(home)]) == 1
    assert capsys.readouterr().err == "helexa: No model named none.\n"


def test_inspect_shows_units_and_says_what_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enter(["inspect", "cortex", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "1m 15s" in said
    assert "no neurons; start one with `helexa neuron --cortex TICKET`" in said
    assert "  members    2 alive" in said
    assert "no peers; `helexa mesh join TICKET`" in said
    assert enter(["inspect", "cortex", "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["model"] == "helexa-demo"
