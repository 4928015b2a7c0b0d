"""The models made for other engines: whole, readable here, and the same each time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.runtime_models import SCRIPTS, made, reference

from helexa.neuron.models import gguf, safetensors
from helexa.neuron.models.listing import list_models
from helexa.protocol.ids import ModelId


def test_the_llama_is_read_as_the_gguf_it_came_from() -> None:
    listed = list_models(made("helexa-demo")).models[ModelId("helexa-demo")]
    assert listed.folder is not None
    found = safetensors.described(ModelId("helexa-demo"), listed.folder, listed.parts)
    assert (found.architecture, found.quantisation, found.layers) == ("llama", "F32", 6)
    assert found.context_tokens_trained == 2048
    assert "<tool_call>" in found.chat_template


def test_the_one_that_sees_is_read_as_what_it_is() -> None:
    listed = list_models(made("helexa-demo-vision")).models[ModelId("helexa-demo-vision")]
    assert listed.folder is not None
    found = safetensors.described(ModelId("m"), listed.folder, listed.parts)
    assert (found.architecture, found.layers, found.embedding_length) == ("llava", 4, 96)
    assert found.sees


def test_the_small_berts_say_what_they_are() -> None:
    folder = made("tiny-bert")
    kinds = {"tiny-embed-f16": 1, "tiny-embed-f32": 1, "tiny-rerank-f16": 4, "tiny-rerank-f32": 4}
    for name, pooling in kinds.items():
        metadata = gguf.read(folder / f"{name}.gguf")
        assert metadata.number("bert.pooling_type") == pooling
    listed = list_models(folder).models
    assert {"tiny-embed", "tiny-rerank", *kinds} <= set(listed)
    for name, word in (("tiny-embed", "mean"), ("tiny-rerank", "rank")):
        one = listed[ModelId(name)]
        assert one.folder is not None
        assert safetensors.described(ModelId(name), one.folder, one.parts).pooling == word


def test_they_are_the_same_each_time(tmp_path: Path) -> None:
    first = made("tiny-bert")
    command = [sys.executable, str(SCRIPTS), "--out", str(tmp_path), "--only", "tiny-bert"]
    subprocess.run(command, check=True, capture_output=True)
    again = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert again
    for name in again:
        digests = [hashlib.sha256((at / name).read_bytes()).digest() for at in (first, tmp_path)]
        assert digests[0] == digests[1], name


def test_references_are_of_unit_length_and_of_every_text() -> None:
    for name, width in (("all-minilm-l6-v2", 384), ("tiny-embed", 64)):
        told = reference(name)
        assert len(told["sentences"]) == len(told["vectors"]) == 20
        for vector in told["vectors"]:
            assert len(vector) == width
            assert abs(sum(one * one for one in vector) - 1) < 1e-4
