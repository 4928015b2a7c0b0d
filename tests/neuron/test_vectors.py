"""Embeddings: what may be asked for, how it comes, and what a real sentence model makes of it."""

from __future__ import annotations

import base64
import json
import math
import struct
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.test_app import api, ask, settings
from tests.runtime_models import made, reference

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.serving import vectors
from helexa.neuron.serving.vectors import INPUTS_MAX, Vectors
from helexa.neuron.settings import ModelSettings
from helexa.protocol.errors import BodyMalformed, CapabilityMissing, RuntimeMalformed
from helexa.protocol.ids import ModelId
from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Ability, Capabilities, ModelFiles
from helexa.testing import tiny_gguf
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

EMBEDDINGS = "/v1/embeddings"
DOWNLOADED = Path(tempfile.gettempdir()) / "helexa-test-downloads"
WHOLE = Capabilities(classes=(WorkloadClass.EMBEDDING,))
CUT = Capabilities(classes=(WorkloadClass.EMBEDDING,), abilities=frozenset({Ability.DIMENSIONS}))
FILES = ModelFiles(
    model=ModelId("m"), weights=Path("/m.gguf"), embedding_length=8, vocabulary=100, pooling="mean"
)


def packed(numbers: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def unpacked(text: str) -> list[float]:
    content = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def said(*embeddings: Any, order: Sequence[int] = (), **more: Any) -> bytes:
    """An engine's answer."""
    data = [
        {"object": "embedding", "index": index, "embedding": one}
        for index, one in zip(order or range(len(embeddings)), embeddings, strict=True)
    ]
    return json.dumps({"object": "list", "data": data, "model": "m", **more}).encode()


def asked(files: ModelFiles = FILES, offered: Capabilities = WHOLE, **body: Any) -> Vectors:
    content = json.dumps({"model": "m", **body}).encode()
    return vectors.asked(content, files, offered, runtime="r")[0]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.hypot(*one) / math.hypot(*other)


# --- what is asked


@pytest.mark.parametrize(
    ("given_input", "field"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        ([[1], []], "input[1]"),
        (["a", 1], "input[1]"),
        ([[1], "a"], "input[1]"),
        ([1, [2]], "input[1]"),
        ([100], "input[0]"),
        ([[1], [-1]], "input[1][0]"),
        (["a"] * (INPUTS_MAX + 1), "input"),
        (None, "input"),
        ([1.5], "input[0]"),
        ([True], "input[0]"),
        ({"a": 1}, "input"),
    ],
)
def test_inputs_that_engines_read_differently_are_refused(given_input: Any, field: str) -> None:
    with pytest.raises(BodyMalformed) as caught:
        asked(input=given_input)
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("given_input", "count"), [("a", 1), (["a", "b"], 2), ([1, 99], 1), ([[1], [2, 3], [4]], 3)]
)
def test_inputs_are_counted(given_input: Any, count: int) -> None:
    assert asked(input=given_input).count == count


def test_what_cannot_be_is_refused_by_its_field() -> None:
    files = replace(FILES, dimensions=(4, 2))
    with pytest.raises(BodyMalformed, match="`float` or `base64`"):
        asked(input="a", encoding_format="int8")
    with pytest.raises(BodyMalformed, match="one of 8, 4, 2 with this model, not 3") as caught:
        asked(files, CUT, input="a", dimensions=3)
    assert caught.value.param == "dimensions"
    with pytest.raises(CapabilityMissing, match="another length than 8") as missing:
        asked(input="a", dimensions=4)
    assert missing.value.param == "dimensions"


def test_the_engine_is_not_asked_for_what_is_done_here() -> None:
    files = replace(FILES, dimensions=(4,))
    body = b'{"model": "m", "input": "a", "user": "u"}'
    assert vectors.asked(body, files, CUT, runtime="r")[1] is body
    for length in (4, 8):
        wanted = body.replace(b"}", b', "dimensions": %d}' % length)
        _, inner = vectors.asked(wanted, files, CUT, runtime="r")
        assert json.loads(inner) == json.loads(body)
    # An engine that alone knows its model's lengths is asked, and held to its answer.
    unknown, inner = vectors.asked(
        body.replace(b"}", b', "dimensions": 3}'), FILES, CUT, runtime="r"
    )
    assert json.loads(inner)["dimensions"] == 3
    assert json.loads(unknown.settled(said([0.0, 0.6, 0.8])))["data"][0]["embedding"]
    with pytest.raises(RuntimeMalformed, match="2 numbers, not 3"):
        unknown.settled(said([0.6, 0.8]))


# --- what is answered


def test_an_answer_that_is_as_asked_goes_on_byte_for_byte() -> None:
    for wants, body in (
        (Vectors(2, packed=False), said([0.6, 0.8], [1, 0])),
        (Vectors(1, packed=True), said(packed([0.6, 0.8]))),
    ):
        assert wants.settled(body) is body


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20))
def test_both_forms_say_the_same(numbers: list[float]) -> None:
    plain, tight = said(numbers, usage={"prompt_tokens": 1}), said(packed(numbers))
    to_packed = json.loads(Vectors(1, packed=True).settled(plain))
    to_plain = json.loads(Vectors(1, packed=False).settled(tight))
    assert unpacked(to_packed["data"][0]["embedding"]) == numbers
    assert to_plain["data"][0]["embedding"] == numbers
    assert to_packed["usage"] == {"prompt_tokens": 1}
    assert to_packed["data"][0]["object"] == "embedding"


@pytest.mark.parametrize("tight", [False, True])
def test_a_vector_that_is_cut_has_unit_length_again(tight: bool) -> None:
    numbers = [0.5, 0.5, 0.5, 0.5]
    body = said(packed(numbers)) if tight else said(numbers)
    found = json.loads(Vectors(1, packed=False, length=2, cut=True).settled(body))
    assert found["data"][0]["embedding"] == pytest.approx([math.sqrt(0.5)] * 2)
    nothing = said([0.0, 0.0, 1.0])
    found = json.loads(Vectors(1, packed=False, length=2, cut=True).settled(nothing))
    assert found["data"][0]["embedding"] == [0.0, 0.0]


def test_vectors_come_in_the_order_of_their_inputs() -> None:
    body = said([2.0], [0.0], [1.0], order=(2, 0, 1))
    data = json.loads(Vectors(3, packed=False).settled(body))["data"]
    assert [(one["index"], one["embedding"]) for one in data] == [
        (0, [0.0]),
        (1, [1.0]),
        (2, [2.0]),
    ]


@pytest.mark.parametrize(
    ("count", "body"),
    [
        (2, said([1.0])),
        (1, said([1.0], [1.0])),
        (2, said([1.0], [1.0], order=(0, 0))),
        (1, said([None])),
        (1, said(["a"])),
        (1, said(packed([math.nan]))),
        (1, said(packed([math.inf, 1.0]))),
        (1, said("AAA=")),
        (1, said("!!!!")),
        (1, said({"a": 1})),
        (1, b'{"data": 1}'),
        (1, b"{}"),
        (1, b'{"data": [{"index": 0}]}'),
    ],
)
def test_an_answer_that_is_no_such_vectors_is_the_runtimes_fault(count: int, body: bytes) -> None:
    with pytest.raises(RuntimeMalformed):
        Vectors(count, packed=False).settled(body)


# --- through a neuron and the real engine


@asynccontextmanager
async def neuron(
    tmp_path: Path, folder: Path, served: dict[str, ModelSettings] | None = None
) -> AsyncIterator[tuple[Neuron, Pool]]:
    usual = settings(tmp_path, folder, slots=2)
    wanted = msgspec.structs.replace(usual, models=served or {})
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        yield live, pool


async def embedded(pool: Pool, model: str, given_input: Any, **more: Any) -> list[list[float]]:
    reply = await ask(pool, "POST", EMBEDDINGS, {"model": model, "input": given_input, **more})
    assert reply.status == 200, reply.content
    assert [one["index"] for one in reply.json["data"]] == list(range(len(reply.json["data"])))
    found = [one["embedding"] for one in reply.json["data"]]
    return list(map(unpacked, found)) if more.get("encoding_format") == "base64" else found


async def test_batches_ids_and_forms_of_the_engine(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "m" / "embed.gguf", pooling=1, context_tokens=256)
    # Of very different lengths: what is computed side by side is not to be mixed up.
    texts = [f"{number} " + "abc " * (number * 7 % 60) for number in range(40)]
    async with neuron(tmp_path, tmp_path / "m") as (_, pool):
        whole = await embedded(pool, "embed", texts)
        each = [(await embedded(pool, "embed", text))[0] for text in texts]
        tight = await embedded(pool, "embed", texts, encoding_format="base64")
        ids = await embedded(pool, "embed", [[5, 6, 7], [8]])
        one_of_ids = await embedded(pool, "embed", [5, 6, 7])
        reply = await ask(pool, "POST", EMBEDDINGS, {"model": "embed", "input": texts})
        alone = await ask(pool, "POST", EMBEDDINGS, {"model": "embed", "input": texts[0]})
    for others in (each, tight):
        assert min(map(cosine, whole, others)) > 0.9999
    assert cosine(ids[0], one_of_ids[0]) > 0.9999
    assert cosine(ids[0], ids[1]) < 0.999
    # Forty inputs in one context each, not in one context together.
    assert reply.json["usage"]["prompt_tokens"] > 256 > alone.json["usage"]["prompt_tokens"] > 0
    assert "fault" not in reply.json["usage"]


async def test_too_long_an_input_is_told_with_its_numbers(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "m" / "embed.gguf", pooling=1, context_tokens=128)
    body = {"model": "embed", "input": ["short", "a" * 300]}
    async with neuron(tmp_path, tmp_path / "m") as (_, pool):
        reply = await ask(pool, "POST", EMBEDDINGS, body)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert reply.error["param"] == "input"
    assert "302 tokens; this model reads 128 at once" in reply.error["message"]


async def test_an_operator_says_to_what_vectors_may_be_cut(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "m" / "embed.gguf", pooling=1)
    served = {"embed": ModelSettings(dimensions=(16, 4))}
    async with neuron(tmp_path, tmp_path / "m", served) as (live, pool):
        (whole,) = await embedded(pool, "embed", "hello", dimensions=32)
        (cut,) = await embedded(pool, "embed", "hello", dimensions=4)
        (tight,) = await embedded(pool, "embed", "hello", dimensions=4, encoding_format="base64")
        odd = await ask(
            pool, "POST", EMBEDDINGS, {"model": "embed", "input": "hello", "dimensions": 5}
        )
        assert "dimensions" in live.roster.capability("embed").abilities
    norm = math.hypot(*whole[:4])
    assert cut == pytest.approx([one / norm for one in whole[:4]], abs=1e-5)
    assert tight == pytest.approx(cut, abs=1e-6)
    assert (odd.status, odd.error["param"]) == (400, "dimensions")
    assert "one of 32, 16, 4" in odd.error["message"]


async def test_lengths_that_a_model_has_not_are_said_so(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "m" / "embed.gguf", pooling=1)
    served = {"embed": ModelSettings(dimensions=(64,))}
    async with neuron(tmp_path, tmp_path / "m", served) as (_, pool):
        reply = await ask(pool, "POST", EMBEDDINGS, {"model": "embed", "input": "x"})
    assert reply.status == 503
    assert "dimensions has 64, and its vectors have 32 numbers" in reply.error["message"]


@pytest.mark.parametrize("kind", ["f16", "f32"])
@pytest.mark.parametrize("name", ["tiny-embed", "all-minilm-l6-v2"])
async def test_vectors_are_those_of_the_reference_implementation(
    tmp_path: Path, name: str, kind: str
) -> None:
    """What transformers computes for twenty sentences, of drawn weights and of a trained model."""
    folder = made("tiny-bert" if name == "tiny-embed" else name, DOWNLOADED)
    told = reference(name)
    model = f"{name}-{kind}"
    async with neuron(tmp_path, folder) as (_, pool):
        plain = await embedded(pool, model, told["sentences"])
        tight = await embedded(pool, model, told["sentences"], encoding_format="base64")
    assert len(plain) == len(tight) == 20
    for found in (plain, tight):
        assert min(map(cosine, found, told["vectors"])) >= 0.999
