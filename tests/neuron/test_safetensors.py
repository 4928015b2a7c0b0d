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

from helexa.neuron.models import folder_config, safetensors
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


def test_a_model_that_sees_says_so(tmp_path: Path) -> None:
    seeing = {"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}}
    assert read(model(tmp_path / "sees", **seeing)).sees
    assert not read(model(tmp_path / "blind")).sees
    # It compares pictures with texts, and generates nothing.
    pairs = {"architectures": ["CLIPModel"], "vision_config": {}}
    found = read(model(tmp_path / "pairs", **pairs))
    assert not found.sees
    assert found.pooling == "other"


def pooled(folder: Path, pooling: dict[str, Any], kinds: str = "Transformer Pooling") -> Path:
    """As sentence-transformers saves it."""
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": at, "path": paths.get(kind, f"{at}_{kind}"), "type": f"x.models.{kind}"}
        for at, kind in enumerate(kinds.split())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    return folder


BERT = {"architectures": ["BertModel"], "model_type": "bert"}


@pytest.mark.parametrize(
    ("pooling", "word"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "max"}, "other"),
        ({"pooling_mode_max_tokens": True}, "other"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "other"),
        ({}, "other"),
    ],
)
def test_how_a_sentence_becomes_a_vector_is_said(
    tmp_path: Path, pooling: dict[str, Any], word: str
) -> None:
    found = read(pooled(model(tmp_path / "m", **BERT), pooling))
    assert found.pooling == word
    assert found.model_class == "BertModel"
    # It reads a text once and keeps nothing of it.
    assert found.kv_bytes_per_token == 0


def test_what_is_done_to_vectors_besides_is_nothing_for_any_engine(tmp_path: Path) -> None:
    mean = {"pooling_mode_mean_tokens": True}
    for number, more in enumerate(("Dense", "Normalize LayerNorm", "Asym")):
        folder = model(tmp_path / f"m{number}", **BERT)
        assert read(pooled(folder, mean, f"Transformer Pooling {more}")).pooling == "other"
    folder = model(tmp_path / "usual", **BERT)
    assert read(pooled(folder, mean, "Transformer Pooling Normalize")).pooling == "mean"


def test_vectors_without_a_word_on_pooling_are_not_guessed_at(tmp_path: Path) -> None:
    assert read(model(tmp_path / "m", **BERT)).pooling == "other"


@pytest.mark.parametrize("path", ["..", "../m", "/etc", ".hidden", "a/b", "", 7])
def test_the_pooling_of_another_folder_is_not_read(tmp_path: Path, path: Any) -> None:
    folder = pooled(model(tmp_path / "m", **BERT), {"pooling_mode_mean_tokens": True})
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": path}]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert read(folder).pooling == "other"


@pytest.mark.parametrize(
    ("modules", "reason"),
    [("{}", "not understood"), ("[1]", "not understood"), ("[" + "{}," * 40 + "{}]", "41 modules")],
)
def test_modules_of_another_shape_are_a_reason(tmp_path: Path, modules: str, reason: str) -> None:
    folder = model(tmp_path / "m", **BERT)
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ModelUnreadable, match=reason):
        read(folder)


def test_a_classifier_of_one_label_ranks(tmp_path: Path) -> None:
    ranker = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}
    assert read(model(tmp_path / "one", **ranker)).pooling == "rank"
    ranker["id2label"] = {"0": "bad", "1": "good"}
    assert read(model(tmp_path / "two", **ranker)).pooling == "other"
    del ranker["id2label"]
    assert read(model(tmp_path / "unsaid", **ranker)).pooling == "other"
    assert read(model(tmp_path / "number", **ranker, num_labels=1)).pooling == "rank"


def test_lengths_to_which_vectors_may_be_cut(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", matryoshka_dimensions=[32, 16, 64, -1, True, "8", 1 << 70, 16])
    pooled(folder, {"pooling_mode_lasttoken": True})
    assert read(folder).dimensions == (16, 32)
    assert read(model(tmp_path / "chat", matryoshka_dimensions=[32])).dimensions == ()


@pytest.mark.parametrize(
    ("config", "near"),
    [
        ({}, 0),
        ({"sliding_window": None}, 0),
        ({"sliding_window": 512}, 2),
        ({"sliding_window": 512, "use_sliding_window": False}, 0),
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, 1),
        ({"sliding_window": 512, "sliding_window_pattern": 2}, 1),
        ({"sliding_window": 512, "model_type": "gemma2"}, 1),
    ],
)
def test_layers_that_look_back_over_a_window_are_counted_apart(
    tmp_path: Path, config: dict[str, Any], near: int
) -> None:
    found = read(model(tmp_path / "m", **config))
    per_layer = 2 * 16 * 2 * 2
    assert found.window_kv_bytes_per_token == near * per_layer
    assert found.kv_bytes_per_token == (2 - near) * per_layer
    assert found.window_tokens == (512 if near else 0)


def test_what_an_adapter_plans_with_is_there(tmp_path: Path) -> None:
    found = read(model(tmp_path / "m", intermediate_size=256, vocab_size=1000))
    assert (found.heads, found.feed_forward_length, found.vocabulary) == (4, 256, 1000)
    experts = {"num_experts_per_tok": 8, "moe_intermediate_size": 96, "intermediate_size": 256}
    assert read(model(tmp_path / "experts", **experts)).feed_forward_length == 8 * 96
    padded = read(model(tmp_path / "padded", model_type="xlm-roberta", max_position_embeddings=514))
    assert padded.context_tokens_trained == 512


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


_KEYS = """architectures text_config vision_config id2label num_labels hidden_size head_dim
    layer_types sliding_window model_type matryoshka_dimensions num_hidden_layers"""


@given(st.dictionaries(st.sampled_from(_KEYS.split()), _json))
def test_no_config_breaks_the_reader(config: dict[str, Any]) -> None:
    found = folder_config.told(Path("/nowhere"), config)
    assert 0 <= found["kv_bytes_per_token"] <= 1 << 30


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


async def test_a_sentence_model_comes_with_its_pooling(tmp_path: Path) -> None:
    made = pooled(model(tmp_path / "made", **BERT), {"pooling_mode_mean_tokens": True})
    names = ("config.json", "model.safetensors", "modules.json", "1_Pooling/config.json")
    files = {name: (made / name).read_bytes() for name in names}
    files["onnx/config.json"] = files["2_Dense/config.json"] = b"{}"
    async with Hub.running() as hub:
        hub.repo("org/s").commit(files)
        async with supplied(tmp_path / "models", hub.url) as supply:
            assert is_here(await supply.pull("org/s", "hf:org/s"))
            assert supply.store.models[ModelId("org/s")].pooling == "mean"
            folder = supply.folder / "org/s"
            there = {path.relative_to(folder) for path in folder.rglob("*.json")}
            assert Path("1_Pooling/config.json") in there
            assert Path("2_Dense/config.json") not in there
            await supply.pulls.remove(ModelId("org/s"))
            assert not (supply.folder / "org").exists()
