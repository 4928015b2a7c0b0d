"""Servers that a command starts, and servers behind TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.neuron.other_servers import HELLO, scripted, stream
from tests.neuron.test_app import ask
from tests.neuron.test_served import CHAT, chat, neuron, state

from helexa.neuron.settings import ModelSettings, ServerSettings
from helexa.runtime.openai_compatible import address
from helexa.testing import tiny_gguf

pytestmark = pytest.mark.anyio

SERVER = '''
"""Answers what it was started with."""
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, content, kind="application/json", status=200):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def is_known(self):
        if self.headers.get("authorization") == "Bearer " + os.environ["SECRET"]:
            return True
        self.answer(b"{}", status=401)

    def do_GET(self):
        if self.is_known():
            self.answer(b"{}", status=200 if self.path == "/up" else 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.is_known():
            said = {"argv": sys.argv[1:], "asked": body["model"], "pid": os.getpid()}
            message = {"role": "assistant", "content": json.dumps(said)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"object": "chat.completion", "model": body["model"], "choices": [choice]}
            self.answer(json.dumps(answer).encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''


def started_by(tmp_path: Path, *more: str, **settings: Any) -> dict[str, ServerSettings]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    return {
        "mine": ServerSettings(
            command=(sys.executable, str(script), "{port}", *more),
            environment={"SECRET": "{secret}"},
            ready_path="/up",
            **settings,
        )
    }


async def test_a_command_serves_what_its_settings_name(tmp_path: Path) -> None:
    wanted = started_by(
        tmp_path, "{model}", "{context_tokens}", "$(no shell)", models={"here": "there"},
        context_tokens=777,
    )  # fmt: skip
    async with neuron(tmp_path, servers=wanted) as (live, pool):
        found = await state(live, "here", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("here"))
        said = json.loads(reply.json["choices"][0]["message"]["content"])
        assert psutil.pid_exists(said["pid"])
        stopped = await live.roster.unload("here", 1.0)
        assert stopped is None
        assert not psutil.pid_exists(said["pid"])
    assert found.runtime == "openai_compatible"
    assert (said["argv"][1:], said["asked"]) == (["there", "777", "$(no shell)"], "there")
    assert reply.json["model"] == "here"


CHILD = {
    "model": "{model}", "weights": "{weights}", "socket": "{socket}", "projector": "",
    "context_total": 1024, "slots": 2, "threads": 1, "deterministic": False, "pooling": "",
    "arguments": {}, "cache_mib": 0, "checkpoints": 0,
}  # fmt: skip


async def test_files_on_this_disk_are_served_by_a_command(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny_gguf.write(tmp_path / "models" / "tiny.gguf")
    wanted = {
        "child": ServerSettings(
            # Our own child as if it was somebody's: JSON with places to fill among its words.
            command=(
                *(sys.executable, "-I", "-m", "helexa.runtime.children.llama_cpp"),
                json.dumps(CHILD),
            ),
            ready_path="/health",
            offers=("chat", "completion", "seed"),
            slots=2,
        )
    }
    chosen = {"tiny": ModelSettings(server="child", context_tokens=512)}
    async with neuron(tmp_path, servers=wanted, models=chosen) as (live, pool):
        found = await state(live, "tiny", "unloaded")
        reply = await ask(pool, "POST", CHAT, chat("tiny", max_tokens=8, seed=1))
        refused = await ask(pool, "POST", CHAT, chat("tiny", n=2))
        loaded = await state(live, "tiny", "loaded")
    assert (found.runtime, found.slots, found.context_tokens) == ("openai_compatible", 2, 512)
    assert found.abilities == ("seed",)
    assert found.memory_bytes > 1 << 20
    assert loaded.digest.startswith("sha256:") or loaded.digest == ""
    assert reply.json["usage"]["completion_tokens"] == 8
    assert (refused.status, refused.error["code"]) == (400, "unsupported_capability")
    assert "openai_compatible" in refused.error["message"]


async def test_a_command_that_is_not_there_or_fails_is_told(tmp_path: Path) -> None:
    wanted = {
        "none": ServerSettings(command=("/nowhere/server", "{port}"), models={"a": "a"}),
        "bad": ServerSettings(
            command=(sys.executable, "-c", "import nothing_like_this", "{port}"),
            models={"b": "b"},
        ),
    }
    async with neuron(tmp_path, servers=wanted) as (_, pool):
        none = await ask(pool, "POST", CHAT, chat("a"))
        bad = await ask(pool, "POST", CHAT, chat("b"))
    assert (none.status, bad.status) == (502, 502)
    assert "nothing_like_this" in bad.error["message"]
    assert "not_installed" in bad.error["message"]


def certified(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context and the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    subject: x509.GeneralName = x509.DNSName(host)
    if host[0].isdigit():
        subject = x509.IPAddress(ipaddress.ip_address(host))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trust = folder / "ca.pem"
    trust.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both = folder / "server.pem"
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + trust.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trust


@pytest.mark.parametrize(
    ("host", "is_trusted", "works"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("example.com", True, False)],
)
async def test_tls_is_verified_by_what_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, is_trusted: bool, works: bool
) -> None:
    context, trust = certified(tmp_path, host)
    address._trust.cache_clear()
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(trust))
    async with scripted("there", tls=context, chat_completions=lambda _: stream(*HELLO)) as other:
        url = other.url.replace("http://", "https://")
        wanted = {"other": ServerSettings(url=url, models={"here": "there"})}
        async with neuron(tmp_path, servers=wanted) as (live, pool):
            failed = await state(live, "here", "unloaded" if works else "failed")
            reply = await ask(pool, "POST", CHAT, chat("here"))
    address._trust.cache_clear()
    assert reply.status == (200 if works else 503)
    # Nothing was asked, and no key shown, before it was known who that is.
    assert bool(other.asked) == works
    if not works:
        assert "certificate" in failed.reason
