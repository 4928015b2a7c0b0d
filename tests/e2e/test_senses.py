"""Pictures, vectors and scores through the whole chain: gateway, neuron and engine as processes."""

from __future__ import annotations

import base64
import importlib
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.processes import ANY_PORTS, Node, started
from tests.e2e.raw import ask, asked, events
from tests.runtime_models import made, reference

from helexa.testing import tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CHAT = "/chat/completions"
VISION = "helexa-demo-vision"
SCRIPTS = Path(__file__).parents[2] / "scripts" / "demo_models"
PICTURES, BAR, PICTURE_TOKENS = 60, 0.90, 64
"""The bar of the exam that the model had to pass, `scripts/demo_models/evaluate.py`."""


class Gallery(ThreadingHTTPServer):
    """Serves the bytes under each path, and counts who asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hall)
        self.contents: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Hall(BaseHTTPRequestHandler):
    server: Gallery

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        content = self.server.contents.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.send_header("content-length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Nothing."""


@pytest.fixture(scope="module")
def gallery() -> Iterator[Gallery]:
    server = Gallery()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, gallery: Gallery) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("senses")
    models = folder / "models"
    models.mkdir()
    for name in ("tiny-embed-f32", "tiny-rerank-f32"):
        shutil.copy(made("tiny-bert") / f"{name}.gguf", models)
    tiny_gguf.write(models / "talks.gguf")
    settings = (
        "neuron.image_urls=true",
        "neuron.image_url_networks=127.0.0.0/8",
        f"neuron.image_url_ports={gallery.server_address[1]}",
    )
    words = [word for one in settings for word in ("--set", one)]
    where = ("--home", str(folder / "home"), "--models-dir", str(models))
    with started("up", *where, *ANY_PORTS, *words, cwd=folder) as node:
        assert node.ready
        yield node


def cases(count: int) -> list[Any]:
    """Pictures that were drawn for no lesson, as requests with their judges."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        exam = importlib.import_module("workshop.exam_pictures")
    finally:
        sys.path.remove(str(SCRIPTS))
    found: list[Any] = exam.picture_cases(count)
    return found


def reply_to(up: Node, body: dict[str, Any], path: str = CHAT) -> tuple[int, Any]:
    return ask(up.ready["base_url"], path, body, key=up.ready["api_key"])


def streamed(up: Node, body: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """Text, why it ended, and usage."""
    body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with asked(up.ready["base_url"], CHAT, body, key=up.ready["api_key"]) as response:
        assert response.status == 200, response.read()
        *found, done = events(response)
    assert done == "[DONE]"
    told = list(map(json.loads, found))
    text, reason = "", None
    for event in told:
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    return text, reason, told[-1]["usage"]


def test_pictures_that_nobody_trained_on_are_told_apart(up: Node) -> None:
    drawn = cases(PICTURES)
    exam = sys.modules["workshop.exam"]

    def right(numbered: tuple[int, Any]) -> tuple[bool, str, int]:
        number, case = numbered
        body = {"model": VISION, "temperature": 0, "max_tokens": 60, **case.body}
        if number % 2:
            text, reason, usage = streamed(up, body)
        else:
            status, answer = reply_to(up, body)
            assert status == 200, answer
            choice, usage = answer["choices"][0], answer["usage"]
            text, reason = choice["message"]["content"], choice["finish_reason"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        return case.is_right(exam.Reply(text, reason)), text, usage["prompt_tokens"]

    # Some at once, as that is when one could be taken for another.
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(right, enumerate(drawn)))
    assert sum(is_right for is_right, _, _ in found) / PICTURES >= BAR
    wanted = {case.expected for case in drawn}
    assert len(wanted) > PICTURES // 3
    assert len({text for _, text, _ in found}) >= len(wanted) * BAR
    assert all(tokens > PICTURE_TOKENS for _, _, tokens in found)


def test_several_pictures_are_counted_each(up: Node) -> None:
    (case,) = cases(1)
    parts = case.body["messages"][0]["content"]
    (picture,) = (one for one in parts if one["type"] == "image_url")
    text = {"type": "text", "text": "What is this?"}
    counts = []
    for number in range(4):
        content = [text, *[picture] * number]
        body = {
            "model": VISION,
            "max_tokens": 4,
            "messages": [{"role": "user", "content": content}],
        }
        status, answer = reply_to(up, body)
        assert status == 200
        counts.append(answer["usage"]["prompt_tokens"] - PICTURE_TOKENS * number)
        assert streamed(up, body)[2]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert len(set(counts)) == 1


def test_a_text_model_is_never_loaded_for_a_picture(up: Node) -> None:
    (case,) = cases(1)
    for role in ("user", "assistant", "system", "tool"):
        body = {"model": "talks", **case.body}
        body["messages"] = [{**body["messages"][0], "role": role}]
        for stream in (False, True):
            status, answer = reply_to(up, {**body, "stream": stream})
            assert (status, answer["error"]["code"]) == (400, "unsupported_modality")
    status, told = ask(up.ready["base_url"], "/models/talks", key=up.ready["api_key"])
    assert status == 200
    assert (told["state"], told["modalities"]) == ("unloaded", ["text"])
    assert "json_schema" in told["helexa"]["abilities"]
    _, told = ask(up.ready["base_url"], f"/models/{VISION}", key=up.ready["api_key"])
    assert "image" in told["modalities"]


def test_pictures_are_fetched_from_where_the_operator_allows(up: Node, gallery: Gallery) -> None:
    bodies = []
    drawn = cases(6)
    for number, case in enumerate(drawn):
        body = json.loads(json.dumps(case.body))
        for part in body["messages"][0]["content"]:
            if part["type"] == "image_url":
                content = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                gallery.contents[f"/{number}"] = content
                part["image_url"]["url"] = f"{gallery.url}/{number}"
        bodies.append({"model": VISION, "temperature": 0, "max_tokens": 60, **body})
    texts = [reply_to(up, body)[1]["choices"][0]["message"]["content"] for body in bodies]
    agreed = sum(text == case.expected for text, case in zip(texts, drawn, strict=True))
    assert agreed >= len(drawn) * BAR - 1
    assert gallery.asked == {f"/{number}": 1 for number in range(6)}
    gallery.contents["/page"] = b"<html>not a picture</html>"
    for where, said in (
        (f"{gallery.url}/page", "is none of png"),
        (f"{gallery.url}/gone", "status 404"),
        (gallery.url.replace("127.0.0.1", "10.255.255.1"), "could not be fetched from there"),
        ("http://169.254.169.254/latest/meta-data", "names a port other than"),
        (gallery.url.replace("//", "//user:pw@"), "without a user name"),
        ("file:///etc/passwd", "no URL that a picture can have"),
    ):
        part = {"type": "image_url", "image_url": {"url": where}}
        body = {"model": VISION, "messages": [{"role": "user", "content": [part]}]}
        status, answer = reply_to(up, body)
        assert (status, answer["error"]["code"]) == (400, "invalid_image")
        assert answer["error"]["param"] == "messages[0].content[0].image_url.url"
        assert said in answer["error"]["message"]


def test_vectors_and_scores_come_through_the_gateway(up: Node) -> None:
    told = reference("tiny-embed")
    body = {"model": "tiny-embed-f32", "input": told["sentences"]}
    status, answer = reply_to(up, body, "/embeddings")
    assert status == 200
    for item, vector in zip(answer["data"], told["vectors"], strict=True):
        assert sum(a * b for a, b in zip(item["embedding"], vector, strict=True)) >= 0.999
    assert answer["usage"]["prompt_tokens"] > 20
    ranked = reference("tiny-rerank")[0]
    body = {"model": "tiny-rerank-f32", "query": ranked["query"], "documents": ranked["documents"]}
    status, answer = reply_to(up, {**body, "top_n": 2, "return_documents": True}, "/rerank")
    assert status == 200
    best = sorted(range(len(ranked["scores"])), key=lambda at: -ranked["scores"][at])[:2]
    assert [one["index"] for one in answer["results"]] == best
    assert answer["results"][0]["document"] == {"text": ranked["documents"][best[0]]}
    for model in ("talks", "tiny-embed-f32"):
        status, answer = reply_to(up, {**body, "model": model}, "/rerank")
        assert (status, answer["error"]["code"]) == (400, "unsupported_capability")
    status, answer = reply_to(
        up, {"model": "tiny-embed-f32", "input": "word " * 900}, "/embeddings"
    )
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
