"""`helexa up` with a certificate: everything it prints works over TLS, also with the next one."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.e2e.processes import ANY_PORTS, started
from tests.e2e.raw import ask
from tests.util.certificates import HOST, Authority

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def serial_at(url: str, trust: ssl.SSLContext) -> object:
    parts = urlsplit(url)
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        return (secured.getpeercert() or {})["serialNumber"]


def test_up_serves_over_tls_and_takes_a_new_certificate_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files()
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)
    pair = (
        *("--gateway-tls-cert", str(files.certificate)),
        *("--gateway-tls-key", str(files.key)),
    )
    with started("up", "--home", str(tmp_path / "home"), *ANY_PORTS, *pair, cwd=tmp_path) as up:
        base_url = up.ready["base_url"]
        assert base_url.startswith("https://127.0.0.1:")
        said = subprocess.run(
            up.ready["curl"], shell=True, capture_output=True, text=True, timeout=30, check=True
        )
        assert '"finish_reason":"stop"' in said.stdout

        trust = ssl.create_default_context(cafile=str(root))
        before = serial_at(base_url, trust)
        authority.files()
        up.send(signal.SIGHUP)
        status = {}
        while serial_at(base_url, trust) == before:
            pass
        files.key.write_bytes(b"no key")
        while not status.get("gateway_tls", {}).get("fault"):
            _, status = ask(
                up.ready["orchestrator_url"], "/api/v1/status", key=up.ready["admin_token"]
            )
        assert "no private key in PEM" in status["gateway_tls"]["fault"]
        assert status["gateway_tls"]["names"] == [HOST]
        assert serial_at(base_url, trust) != before


def test_a_pair_that_cannot_serve_refuses_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files, other = authority.files(), authority.files("other")
    line = [
        *(
            sys.executable,
            "-m",
            "helexa",
            "cortex",
            "--home",
            str(tmp_path / "home"),
            "--gateway-socket",
            "127.0.0.1:0",
        ),
        *("--gateway-tls-cert", str(files.certificate), "--gateway-tls-key", str(other.key)),
    ]
    refused = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    assert f"{other.key}: does not belong to" in refused.stderr
    assert "Traceback" not in refused.stderr
