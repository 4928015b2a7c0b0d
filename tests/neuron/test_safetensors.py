"""Folders of safetensors: listed by name, described by their headers, and broken in every way."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.neuron.supplies import is_here, supplied

from helexa.neuron.models import safetensors
from helexa.neuron.models.digests import Digests
from helexa.neuron.models.gguf import ModelUnreadable
from helexa.neuron.models.listing import list_models
from helexa.neuron.models.store import ModelStore
from helexa.protocol.ids import ModelId
from helexa.testing.hub import Hub

pytestmark = pytest.mark.anyio

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
TENSORS = {"a": ("BF16", [8, 4]), "b": ("F32", [4])}


def encoded(tensors: dict[str, tuple[str, list[int]]] = TENSORS, **more: Any) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = {"BF16": 2, "F32": 4}[dtype]
        for one in shape:
            size *= one
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    told = json.dumps({**header, **more}).encode()
    return struct.pack("<Q", len(told)) + told + bytes(at)


def model(folder: Path, files: dict[str, bytes] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    for name, data in (files or {"model.safetensors": encoded()}).items():
        (folder / name).write_bytes(data)
    return folder


def read(folder: Path) -> Any:
    listed = list_models(folder.parent).models[ModelId(folder.name)]
    assert listed.folder is not None
    return safetensors.described(ModelId("m"), listed.folder, listed.parts)


def test_a_folder_is_a_model_of_its_own_name(tmp_path: Path) -> None:
    model(tmp_path / "org/a")
    model(tmp_path / "1/2/3/deep")
    model(tmp_path / "1/2/3/4/deeper")
    (tmp_path / "no-config").mkdir()
    (tmp_path / "no-config/model.safetensors").write_bytes(encoded())
    (tmp_path / "no-weights").mkdir()
    (tmp_path / "no-weights/config.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(encoded())
    assert sorted(list_models(tmp_path).models) == ["1/2/3/deep", "org/a"]


def test_its_headers_and_its_config_say_what_it_is(tmp_path: Path) -> None:
    found = read(model(tmp_path / "m"))
    assert found.format == "safetensors"
    assert found.architecture == "llama"
    assert found.parameters == 8 * 4 + 4
    assert found.quantisation == "BF16"
    assert found.layers == 2
    assert found.kv_bytes_per_token == 2 * (2 * 16) * 2 * 2
    assert found.context_tokens_trained == 4096
    assert found.weights_bytes == len(encoded())


def test_a_model_that_sees_has_its_language_in_a_section(tmp_path: Path) -> None:
    found = read(model(tmp_path / "m", text_config={"num_hidden_layers": 7, "head_dim": 10}))
    assert found.layers == 7
    assert found.kv_bytes_per_token == 7 * 2 * 10 * 2 * 2


def test_what_packed_it_is_said(tmp_path: Path) -> None:
    found = read(model(tmp_path / "m", quantization_config={"quant_method": "awq"}))
    assert found.quantisation == "AWQ"


def test_the_chat_template_is_found_in_either_place(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    assert read(folder).chat_template == "old"
    (folder / "chat_template.jinja").write_text("new")
    assert read(folder).chat_template == "new"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "only 0 bytes"),
        (b"\xff" * 20, "claims a header of"),
        (struct.pack("<Q", 4) + b"nope", "not understood"),
        (struct.pack("<Q", 2) + b"[]", "not understood"),
        (encoded()[:-1], "truncated"),
        (encoded(x={"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}), "do not fit"),
        (encoded(x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}), "of the shape"),
        (encoded(x={"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}), "of the shape"),
        (encoded(x={"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}), "do not fit"),
        (encoded(x={"dtype": "NEW9", "shape": [1], "data_offsets": [0, 1 << 60]}), "truncated"),
        (encoded(x=7), "not understood"),
    ],
)
def test_a_broken_file_is_one_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(ModelUnreadable, match=reason):
        read(model(tmp_path / "m", {"model.safetensors": data}))


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_reader(data: bytes, framed: bool) -> None:
    import tempfile

    framed_data = struct.pack("<Q", len(data)) + data if framed else data
    with tempfile.TemporaryDirectory() as place:
        folder = model(Path(place) / "m", {"model.safetensors": framed_data})
        try:
            read(folder)
        except ModelUnreadable:
            return


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}, "1 of its 2"),
        ({"weight_map": {"a": "../m/model.safetensors"}}, "1 of its 1"),
        ({}, "no weight_map"),
    ],
)
def test_an_index_names_files_that_are_there(
    tmp_path: Path, index: dict[str, Any], reason: str
) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnreadable, match=reason):
        read(folder)


def test_numbers_that_are_too_large_are_bounded(tmp_path: Path) -> None:
    huge = dict.fromkeys(CONFIG, 1 << 62)
    found = read(model(tmp_path / "m", **{**huge, "model_type": "x" * 500, "head_dim": 1 << 40}))
    assert found.kv_bytes_per_token == 1 << 30
    assert len(found.architecture) == 64


async def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(encoded())
    folder = model(tmp_path / "models/m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(secret)
    store = ModelStore(tmp_path / "models", Digests(tmp_path / "d.json"), demo_folder=None)
    await store.scan()
    assert "outside the models folder" in store.failed["m"]


async def test_a_repository_of_safetensors_becomes_such_a_folder(tmp_path: Path) -> None:
    parts = {f"model-0000{at}-of-00002.safetensors": encoded() for at in (1, 2)}
    index = {"weight_map": {name: name for name in parts}}
    files = {
        **parts,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"not this",
        "original/consolidated.safetensors": b"nor this",
        "README.md": b"nor this",
    }
    async with Hub.running() as hub:
        hub.repo("org/s").commit(files)
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("org/s", "hf:org/s"))
            assert supply.store.models[ModelId("org/s")].parameters == 2 * 36
            there = sorted(path.name for path in (supply.folder / "org/s").iterdir())
            assert there == sorted(
                [*parts, "config.json", "model.safetensors.index.json", "tokenizer.json"]
            )
            await supply.pulls.remove(ModelId("org/s"))
            assert not (supply.folder / "org").exists()
