"""Tokens by the real engine: what is counted is what a completion of the same body reports."""

from __future__ import annotations

import base64
import shutil
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, CLOCK, TOOLS_TEMPLATE, WEATHER, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.testing import gguf_copies, tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

TOKENIZE, DETOKENIZE = "/v1/tokenize", "/v1/detokenize"
WORDS = "Grüße, 世界! 🙂👍🏽 <|im_start|> a\n\tb"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    demo = DEMO_FOLDER / "helexa-demo.gguf"
    gguf_copies.write(demo, folder / "demo.gguf", {})
    gguf_copies.write(demo, folder / "tools.gguf", {"tokenizer.chat_template": TOOLS_TEMPLATE})
    for part in ("gguf", "mmproj.gguf"):
        shutil.copy(DEMO_FOLDER / f"helexa-demo-vision.{part}", folder / f"sees.{part}")
    tiny_gguf.write(folder / "embed.gguf", pooling=1, context_tokens=1024)
    return folder


@asynccontextmanager
async def asked(tmp_path: Path, models: Path) -> AsyncIterator[Pool]:
    async with neuron(tmp_path, models) as (_, pool):
        yield pool


def red_square() -> str:
    rows = (b"\0" + b"\xff\0\0" * 64) * 64

    def part(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header)
    png += part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


PICTURE = [
    {"type": "text", "text": "Which colour?"},
    {"type": "image_url", "image_url": {"url": red_square()}},
]
BODIES: dict[str, dict[str, Any]] = {
    "one": {"messages": [{"role": "user", "content": WORDS}]},
    "several": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": [{"type": "text", "text": "What is helexa?"}]},
        ]
    },
    "tools": {"messages": [{"role": "user", "content": "time?"}], "tools": [CLOCK, WEATHER]},
    "required": {
        "messages": [{"role": "user", "content": "time?"}],
        "tools": [CLOCK, WEATHER],
        "tool_choice": "required",
    },
    "continued": {
        "messages": [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello, I"},
        ],
        "continue_final_message": True,
    },
}


@pytest.mark.parametrize("model", ["demo", "tools"])
async def test_a_chat_is_counted_as_its_completion_counts_it(
    tmp_path: Path, models: Path, model: str
) -> None:
    async with asked(tmp_path, models) as pool:
        for name, body in BODIES.items():
            counted = await ask(pool, "POST", TOKENIZE, {"model": model, **body})
            whole = await ask(pool, "POST", CHAT, {"model": model, "max_tokens": 1, **body})
            assert whole.status == 200, (name, whole.content)
            prompt = whole.json["usage"]["prompt_tokens"]
            assert counted.status == 200, (name, counted.content)
            assert counted.json["count"] == prompt, name
            assert len(counted.json["tokens"]) == prompt
            assert counted.json["max_model_len"] > prompt
            assert counted.json["token_strs"] is None


async def test_a_picture_is_counted_as_its_completion_counts_it(
    tmp_path: Path, models: Path
) -> None:
    body = {"model": "sees", "messages": [{"role": "user", "content": PICTURE}]}
    blind = {**body, "model": "demo"}
    async with asked(tmp_path, models) as pool:
        counted = await ask(pool, "POST", TOKENIZE, body)
        whole = await ask(pool, "POST", CHAT, {**body, "max_tokens": 1})
        refused = await ask(pool, "POST", TOKENIZE, blind)
        strings = await ask(pool, "POST", TOKENIZE, {**body, "return_token_strs": True})
    assert counted.status == 200, counted.content
    assert counted.json["count"] == whole.json["usage"]["prompt_tokens"]
    assert counted.json["tokens"] == []
    assert (refused.status, refused.error["code"]) == (400, "unsupported_modality")
    assert (strings.status, strings.error["param"]) == (400, "return_token_strs")


async def test_a_text_is_counted_as_its_completion_counts_it_and_comes_back(
    tmp_path: Path, models: Path
) -> None:
    async with asked(tmp_path, models) as pool:
        body = {"model": "demo", "prompt": WORDS, "return_token_strs": True}
        counted = await ask(pool, "POST", TOKENIZE, body)
        bare = await ask(pool, "POST", TOKENIZE, {**body, "add_special_tokens": False})
        whole = await ask(
            pool,
            "POST",
            "/v1/completions",
            {"model": "demo", "prompt": WORDS, "max_tokens": 1},
        )
        text = await ask(pool, "POST", DETOKENIZE, {"model": "demo", "tokens": bare.json["tokens"]})
        read = await ask(pool, "POST", TOKENIZE, {"model": "embed", "prompt": "hi"})
        vector = await ask(pool, "POST", "/v1/embeddings", {"model": "embed", "input": "hi"})
    assert counted.status == 200, counted.content
    assert counted.json["count"] == whole.json["usage"]["prompt_tokens"]
    assert len(counted.json["token_strs"]) == counted.json["count"]
    assert text.json == {"prompt": WORDS}
    # What names a special token is that token only where special ones are wanted.
    assert bare.json["count"] > counted.json["count"]
    assert read.json["count"] == vector.json["usage"]["prompt_tokens"]


async def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, models: Path) -> None:
    cases: list[tuple[str, Any, int, str | None]] = [
        (TOKENIZE, {"model": "demo"}, 400, "prompt"),
        (TOKENIZE, {"model": "demo", "prompt": "a", "messages": []}, 400, "messages"),
        (TOKENIZE, {"model": "demo", "messages": []}, 400, "messages"),
        (TOKENIZE, {"prompt": "a"}, 400, "model"),
        (TOKENIZE, {"model": "demo", "prompt": 3}, 400, "prompt"),
        (TOKENIZE, {"model": "nobody", "prompt": "a"}, 404, "model"),
        (TOKENIZE, {"model": "embed", "messages": [{"role": "user"}]}, 400, "model"),
        (DETOKENIZE, {"model": "demo"}, 400, "tokens"),
        (DETOKENIZE, {"model": "demo", "tokens": [1, 1 << 20]}, 400, "tokens[1]"),
        (DETOKENIZE, {"model": "demo", "tokens": [-1]}, 400, "tokens[0]"),
    ]
    async with asked(tmp_path, models) as pool:
        for path, body, status, param in cases:
            reply = await ask(pool, "POST", path, body)
            assert (reply.status, reply.error["param"]) == (status, param), (body, reply.content)
