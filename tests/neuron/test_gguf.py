"""Model files that lie, and models that tell the truth."""

from __future__ import annotations

import struct
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helexa.neuron.models import attention
from helexa.neuron.models.describe import described
from helexa.neuron.models.gguf import Matrices, Metadata, ModelUnreadable, read
from helexa.protocol.ids import ModelId
from helexa.testing import tiny_gguf

NUMBERS = st.integers(0, 1 << 64)
SMALL = tiny_gguf.encode(
    {"general.architecture": "llama", "llama.context_length": 64, "tokens": ["a", "bc"]},
    [("w", (4, 2), array("f", [0.0] * 8))],
)


def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    return path


def header(tensors: int, fields: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + rest


def field(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def test_a_good_file_says_what_it_is(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "tiny.gguf", context_tokens=512)
    found = read(path)
    files = described(
        ModelId("tiny"),
        path,
        found,
        weights_bytes=found.file_bytes,
        parameters=found.parameters,
    )
    assert files.architecture == "llama"
    assert files.context_tokens_trained == 512
    assert files.quantisation == "F32"
    assert files.embedding_length == 32
    assert files.kv_bytes_per_token == 2 * 32 * 2
    assert files.chat_template == tiny_gguf.CHAT_TEMPLATE
    assert files.pooling == ""
    assert files.parameters * 4 <= files.weights_bytes


def test_keys_of_grouped_heads_are_counted_per_layer(tmp_path: Path) -> None:
    shape = {
        "llama.block_count": 3,
        "llama.attention.head_count": 8,
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 32,
    }
    path = tiny_gguf.write(tmp_path / "a.gguf", metadata=shape)
    content = path.read_bytes()
    whole = described(ModelId("a"), path, read(path), weights_bytes=1, parameters=1)
    # 3 layers, 2 key heads each, 96 numbers of 2 bytes.
    assert whole.kv_bytes_per_token == 3 * 2 * 96 * 2
    assert content


def kept_of(architecture: str, layers: int, **fields: Any) -> attention.Kept:
    named = {f"{architecture}.{key.replace('__', '.')}": value for key, value in fields.items()}
    return attention.kept(Metadata(version=3, fields=named), architecture, layers)


HEADS = {"attention__head_count": 8, "attention__head_count_kv": 4, "embedding_length": 512}
LAYER = 4 * (64 + 64) * 2
"""Bytes of one token in one such layer."""


def test_layers_with_a_window_are_counted_apart() -> None:
    found = kept_of("gemma3", 12, attention__sliding_window=1024, **HEADS)
    assert (found.bytes_per_token, found.window_bytes_per_token) == (2 * LAYER, 10 * LAYER)
    assert found.window_tokens == 1024
    pattern = [True, True, False, True]
    told = kept_of(
        "new",
        4,
        attention__sliding_window=64,
        attention__sliding_window_pattern=pattern,
        **HEADS,
    )
    assert (told.bytes_per_token, told.window_bytes_per_token) == (LAYER, 3 * LAYER)


def test_a_window_that_the_engine_ignores_saves_nothing() -> None:
    found = kept_of("qwen2", 3, attention__sliding_window=1024, **HEADS)
    assert (found.bytes_per_token, found.window_tokens) == (3 * LAYER, 0)


def test_recurrent_layers_keep_a_state_and_no_keys() -> None:
    ssm = {"ssm__inner_size": 1024, "ssm__state_size": 16, "ssm__conv_kernel": 4}
    state = (3 * 1024 + 1024 * 16) * 4
    pure = kept_of("mamba", 24, embedding_length=512, **ssm)
    assert (pure.bytes_per_token, pure.state_bytes) == (0, 24 * state)
    mixed = kept_of("jamba", 4, **{**HEADS, "attention__head_count_kv": [0, 0, 4, 0]}, **ssm)
    assert (mixed.bytes_per_token, mixed.state_bytes) == (LAYER, 3 * state)


def test_what_reads_a_text_once_keeps_nothing() -> None:
    assert kept_of("bert", 6, **HEADS) == attention.Kept(bytes_per_token=0, heads=8)


@given(st.dictionaries(st.sampled_from([*sorted(HEADS), "attention__sliding_window"]), NUMBERS))
def test_no_claim_makes_a_sum_astronomical_or_negative(fields: dict[str, int]) -> None:
    found = kept_of("gemma3", 1 << 14, **fields)
    assert 0 <= found.bytes_per_token <= 1 << 30
    assert 0 <= found.window_bytes_per_token <= 1 << 30
    assert 0 <= found.heads <= 1 << 16


def test_matrices_are_told_apart_by_type_and_the_embedding_is_not_multiplied(
    tmp_path: Path,
) -> None:
    found = read(tiny_gguf.write(tmp_path / "a.gguf")).matrices
    rows = len(tiny_gguf.vocabulary()[0])
    assert found.vocabulary == rows
    assert found.embedding_bytes == rows * 32 * 4
    assert found.has_output
    assert found.by_type == {0: (rows * 32 + 7 * 32 * 32) * 4}
    both = found + Matrices({0: 1, 8: 5})
    assert both.by_type == {0: found.by_type[0] + 1, 8: 5}
    assert both.vocabulary == rows


def test_an_embedding_that_is_the_output_too_is_multiplied(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "a.gguf")
    tied = Matrices({2: 100}, embedding_type=2, embedding_bytes=40, vocabulary=10)
    found = described(ModelId("a"), path, read(path), weights_bytes=1, parameters=1, matrices=tied)
    assert found.multiplied == ((2, 140),)
    assert found.vocabulary == 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "only 0 bytes"),
        (b"GGUF", "only 4 bytes"),
        (b"<html>" + b" " * 100, "it begins with b'<htm'"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(0, 0, version=1), "version 1"),
        (header(0, 0, version=99), "version 99"),
        (header(1 << 62, 0), "4611686018427387904 tensors"),
        (header(0, 1 << 40), "metadata fields"),
        (header(0, 1), "truncated"),
        (header(0, 1, struct.pack("<Q", 1 << 50) + b"x"), "text of"),
        (header(0, 1, field(b"k", 8, struct.pack("<Q", 1 << 20))), "truncated"),
        (header(0, 1, field(b"k", 8, struct.pack("<Q", 1 << 50))), "text of"),
        (header(0, 1, field(b"k", 77, b"")), "unknown type 77"),
        (header(0, 1, field(b"k", 9, struct.pack("<IQ", 8, 1 << 60))), "truncated"),
        (header(0, 1, field(b"k", 9, struct.pack("<IQ", 4, 1 << 60))), "truncated"),
        (header(0, 1, field(b"k", 9, struct.pack("<IQ", 9, 1))), "array of type 9"),
        (
            header(0, 1, field(b"general.alignment", 4, struct.pack("<I", 0))),
            "alignment of 0",
        ),
        (header(1, 0, struct.pack("<Q1sI", 1, b"w", 99)), "99 dimensions"),
        (
            header(1, 0, struct.pack("<Q1sIQIQ", 1, b"w", 1, 1 << 40, 0, 0)),
            "tensor data ends at byte",
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ModelUnreadable) as caught:
        read(file(tmp_path, content))
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="cannot be read"):
        read(tmp_path / "none.gguf")
    with pytest.raises(ModelUnreadable, match="cannot be read"):
        read(tmp_path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """The tensor data ends the file, so no shorter file is a model."""
    assert read(file(tmp_path, SMALL)).parameters == 8
    for length in range(len(SMALL)):
        with pytest.raises(ModelUnreadable):
            read(file(tmp_path, SMALL[:length]))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=6))
def test_damage_is_a_reason_or_harmless_and_never_anything_else(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(SMALL)
    for at, byte in damage:
        content[at] = byte
    path = tmp_path_factory.mktemp("damage") / "m.gguf"
    path.write_bytes(content)
    with suppress(ModelUnreadable):
        described(ModelId("m"), path, read(path), weights_bytes=1, parameters=1)


def test_a_vocabulary_is_skipped_and_a_short_list_kept(tmp_path: Path) -> None:
    content = tiny_gguf.encode(
        {"heads": [1, 2, 3], "scores": [0.5] * 10_000, "after": "here", "vocab": ["x"] * 10_000},
        [],
    )
    found = read(file(tmp_path, content))
    assert found.fields["heads"] == [1.0, 2.0, 3.0]
    assert "scores" not in found.fields
    assert "vocab" not in found.fields
    assert found.text("after") == "here"
