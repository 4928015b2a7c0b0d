"""What the doctor says of servers: whether they can be used, not whether they are written down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from helexa.cli.finding import Finding
from helexa.cli.server_checkup import of_servers
from helexa.config import load


@contextmanager
def listing(*models: str) -> Iterator[int]:
    """A server with these models, by its port."""
    body = json.dumps({"object": "list", "data": [{"id": one} for one in models]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what it needs to."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(tmp_path: Path, port: int, own: int = 1) -> Finding:
    file = tmp_path / "helexa.toml"
    file.write_text(
        f'[neuron]\napi_socket = "127.0.0.1:{own}"\n'
        f'[neuron.servers.far]\nurl = "http://localhost:{port}/v1"\n'
    )
    (finding,) = of_servers(load({}, {}, file=file))
    return finding


def test_a_server_with_models_is_well(tmp_path: Path) -> None:
    with listing("a", "b") as port:
        assert found(tmp_path, port) == Finding("ok", "servers", "far: 2 models")


def test_a_server_without_models_is_a_warning(tmp_path: Path) -> None:
    with listing() as port:
        finding = found(tmp_path, port)
    assert (finding.level, finding.what) == ("warning", "far: it lists no models of its own")


def test_a_server_that_is_this_neuron_is_a_warning(tmp_path: Path) -> None:
    with listing("a") as port:
        finding = found(tmp_path, port, own=port)
    assert (finding.level, finding.what) == ("warning", "far: it leads back to this neuron")
