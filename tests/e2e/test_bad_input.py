"""Every kind of bad input at the doors of a real node: a typed answer, and it keeps serving."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from tests.e2e.processes import ANY_PORTS, Node, runtime_children, started
from tests.e2e.raw import ask, asked, events

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CHAT = "/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ENDLESS = {
    "model": "helexa-demo",
    "messages": HELLO,
    "stream": True,
    "ignore_eos": True,
    "max_tokens": 1900,
}


def sparse_gguf(path: Path, size: int) -> None:
    """A well-formed file whose one tensor is as large as asked, and takes no disk."""
    elements = size // 2
    name = b"token_embd.weight"
    values = {b"general.architecture": b"llama"}
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    for key, value in values.items():
        head += struct.pack("<Q", len(key)) + key + struct.pack("<I", 8)
        head += struct.pack("<Q", len(value)) + value
    head += struct.pack("<Q", len(name)) + name
    head += struct.pack("<IQIQ", 1, elements, 1, 0)
    head += b"\0" * (-len(head) % 32)
    path.write_bytes(head)
    os.truncate(path, len(head) + elements * 2)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("bad")
    models = folder / "models"
    models.mkdir()
    demo = Path(str(files("helexa.neuron.models"))) / "demo" / "helexa-demo.gguf"
    (models / "truncated.gguf").write_bytes(demo.read_bytes()[:200_000])
    (models / "text.gguf").write_text("this is no model at all\n" * 100)
    (models / "empty.gguf").touch()
    sparse_gguf(models / "huge.gguf", 4 * psutil.virtual_memory().total)
    (models / "escape.gguf").symlink_to("/etc/passwd")
    shutil.copy(demo, models / "dropped-in.gguf")
    arguments = (
        *("--home", str(folder / "home"), "--models-dir", str(models)),
        *ANY_PORTS,
    )
    with started("up", *arguments, cwd=folder) as node:
        assert node.ready
        yield node


@pytest.fixture(autouse=True)
def _still_serves(up: Node) -> Iterator[None]:
    """Whatever a test did to the node, the next honest request is answered."""
    yield
    status, body = chat(up, model="helexa-demo", messages=HELLO)
    assert status == 200, body


def chat(up: Node, **fields: object) -> tuple[int, dict]:
    return ask(up.ready["base_url"], CHAT, fields, key=up.ready["api_key"])


def refused(up: Node, body: object, *, key: str | None = None, path: str = CHAT, **more):
    """Status, code and param of a refusal, its envelope checked."""
    key = up.ready["api_key"] if key is None else key
    status, answer = ask(up.ready["base_url"], path, body, key=key, **more)
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return status, error["code"], error["param"]


def address(up: Node) -> tuple[str, int]:
    parts = urlsplit(up.ready["base_url"])
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"[]", None),
        (b'"text"', None),
        (b"\xff\xfe{}", None),
        (b'{"model": "helexa-demo", "messages": "hello"}', "messages"),
        (b'{"model": "helexa-demo", "messages": {}}', "messages"),
        (b'{"model": "helexa-demo"}', "messages"),
        (b'{"model": "helexa-demo", "messages": []}', "messages"),
        (b'{"model": 7, "messages": []}', "model"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "", "messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "", "models": [], "messages": [{"role": "user", "content": "x"}]}', "model"),
        (
            b'{"model": "helexa-demo", "stream": 1, "messages": [{"role": "user"}]}',
            "stream",
        ),
        (b"[" * 100_000, None),
    ],
)
def test_a_body_that_is_no_request(up: Node, body: bytes, param: str | None) -> None:
    status, _, found = refused(up, body)
    assert status == 400
    if param is not None:
        assert found is not None
        assert found.startswith(param)


@pytest.mark.parametrize("messages", [[1], [{"role": 3}], [{"content": "no role"}], [None], [[]]])
def test_messages_that_are_no_messages(up: Node, messages: object) -> None:
    assert refused(up, {"model": "helexa-demo", "messages": messages})[0] == 400


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", "many"), ("temperature", "hot"), ("stop", 7), ("n", "x"), ("tools", "hammer")],
)
def test_a_field_of_the_wrong_type(up: Node, field: str, value: object) -> None:
    body = {"model": "helexa-demo", "messages": HELLO, field: value}
    assert refused(up, body)[0] == 400


@pytest.mark.parametrize(
    "model", ["nope", "../helexa-demo", "..", "a/../../etc/passwd", "x" * 5000, "\0"]
)
def test_an_unknown_model_and_names_that_climb(up: Node, model: str) -> None:
    status, code, param = refused(up, {"model": model, "messages": HELLO})
    assert (status, code, param) == (404, "model_not_found", "model")


def test_a_prompt_longer_than_the_context(up: Node) -> None:
    long = [{"role": "user", "content": "helexa " * 6000}]
    for stream in (False, True):
        status, code, _ = refused(up, {"model": "helexa-demo", "messages": long, "stream": stream})
        assert (status, code) == (400, "context_length_exceeded")


def test_a_picture_for_a_text_model(up: Node) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    body = {"model": "helexa-demo", "messages": [{"role": "user", "content": content}]}
    assert refused(up, body)[:2] == (400, "unsupported_modality")


def test_embeddings_of_a_chat_model(up: Node) -> None:
    body = {"model": "helexa-demo", "input": "hello"}
    assert refused(up, body, path="/embeddings")[0] == 400


@pytest.mark.parametrize("path", ["/nothing", "/models/nope", "/chat/completions/extra"])
def test_an_unknown_path(up: Node, path: str) -> None:
    assert refused(up, None, path=path, method="GET")[0] == 404


def test_a_wrong_method(up: Node) -> None:
    assert refused(up, None, method="GET")[:2] == (405, "method_not_allowed")


@pytest.mark.parametrize("key", ["", "nonsense", "hx_live_" + "x" * 49, "sk-" + "y" * 48])
def test_a_key_that_is_none(up: Node, key: str) -> None:
    body = {"model": "helexa-demo", "messages": HELLO}
    assert refused(up, body, key=key)[:2] == (401, "invalid_api_key")


def test_a_revoked_key_is_refused_at_the_next_request(up: Node) -> None:
    home = up.arguments[up.arguments.index("--home") + 1]

    def keys(*words: str) -> dict:
        line = [sys.executable, "-m", "helexa", "keys", *words, "--home", home, "--json"]
        done = subprocess.run(line, capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    secret = keys("create", "short-lived")["secret"]
    body = {"model": "helexa-demo", "messages": HELLO}
    for header in ({"Authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
        assert ask(up.ready["base_url"], CHAT, body, headers=header)[0] == 200
    keys("revoke", "short-lived")
    assert refused(up, body, key=secret)[:2] == (401, "revoked_api_key")


def test_a_body_of_100_megabytes_is_refused_before_it_is_read(up: Node) -> None:
    with socket.create_connection(address(up), timeout=30) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer " + up.ready["api_key"].encode() + b"\r\n"
            b"content-length: 104857600\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_100_megabytes_without_a_length_is_cut(up: Node) -> None:
    before = sum(process.memory_info().rss for process in up.family())
    with socket.create_connection(address(up), timeout=30) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            b"authorization: Bearer " + up.ready["api_key"].encode() + b"\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(100):
                client.sendall(piece)
            answer = client.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            answer = b"HTTP/1.1 413 "
        assert answer.startswith(b"HTTP/1.1 413 ")
    after = sum(process.memory_info().rss for process in up.family())
    assert after - before < 80 * 2**20


@pytest.mark.parametrize("flood", ["many", "one"])
def test_a_header_flood_is_cut_off(up: Node, flood: str) -> None:
    line = b"x-a: " + b"b" * 1000 + b"\r\n" if flood == "many" else b"b" * 1000
    with socket.create_connection(address(up), timeout=30) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nx-start: ")
        answer = b""
        try:
            for _ in range(1000):
                client.sendall(line)
            answer = client.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            answer = answer or b"HTTP/1.1 431 "
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_bytes_that_are_no_http(up: Node) -> None:
    with socket.create_connection(address(up), timeout=30) as client:
        client.sendall(random.Random(1).randbytes(4000) + b"\r\n\r\n")
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_hangs_up_frees_its_slot(up: Node) -> None:
    """More of them than there are slots: were one kept, the next honest request would wait."""
    for _ in range(12):
        with asked(up.ready["base_url"], CHAT, ENDLESS, key=up.ready["api_key"]) as response:
            next(events(response))
    status, _ = chat(up, model="helexa-demo", messages=HELLO)
    assert status == 200


def test_a_client_that_does_not_read_holds_up_nobody(up: Node) -> None:
    body = json.dumps(ENDLESS).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + up.ready["api_key"].encode() + b"\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(address(up))
        slow.sendall(request)
        assert slow.recv(1)
        for _ in range(3):
            assert chat(up, model="helexa-demo", messages=HELLO)[0] == 200


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("truncated", "truncated"),
        ("text", "GGUF"),
        ("empty", "GGUF"),
        ("huge", "GiB"),
    ],
)
def test_a_broken_model_file_says_what_is_wrong_with_it(up: Node, model: str, words: str) -> None:
    status, body = chat(up, model=model, messages=HELLO)
    assert status in (502, 503, 507), body
    assert words.lower() in body["error"]["message"].lower()
    home = up.arguments[up.arguments.index("--home") + 1]
    done = subprocess.run(
        [sys.executable, "-m", "helexa", "models", "load", model, "--home", home],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert words.lower() in done.stderr.lower()


def test_a_link_out_of_the_models_folder_is_not_served(up: Node) -> None:
    assert refused(up, {"model": "escape", "messages": HELLO})[0] in (404, 503)


def test_a_model_that_was_dropped_in_is_served_like_any_other(up: Node) -> None:
    question = [{"role": "user", "content": "What is helexa?"}]
    _, demo = chat(up, model="helexa-demo", messages=question, temperature=0)
    status, dropped = chat(up, model="dropped-in", messages=question, temperature=0)
    assert status == 200
    assert dropped["choices"][0]["message"] == demo["choices"][0]["message"]


def test_random_bytes_at_the_mesh_ports_change_nothing(up: Node) -> None:
    ready = up.ready
    status = json.loads(
        subprocess.run(
            [sys.executable, "-m", "helexa", "mesh", "status", "--json", "--home", ready["home"]],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    )
    (address,) = status["addresses"]["tls"]
    port = int(address.rpartition(":")[2])
    source = random.Random(7)
    before = len(runtime_children(up))
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", port), 5) as storm, suppress(OSError):
            storm.sendall(source.randbytes(source.randrange(1, 1400)))
    assert chat(up, model="helexa-demo", messages=HELLO)[0] == 200
    assert len(runtime_children(up)) == before
