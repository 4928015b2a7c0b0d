"""BERT as GGUF: names, metadata and the vocabulary as llama.cpp expects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import gguf_file
from .numbers import Tensor

POOLING = {"mean": 1, "cls": 2, "rank": 4}
_CONTROL, _NORMAL = 3, 1
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_HEAD = {"pooler.dense": "cls", "classifier": "cls.output"}


def write(
    path: Path,
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    weights: Mapping[str, Tensor],
    *,
    pooling: str,
    half: bool,
    name: str,
    licence: str,
    context_tokens: int = 0,
) -> None:
    """`weights` by their names in transformers' BertModel, with the head's where it ranks."""
    tensors = {theirs: weights[ours] for ours, theirs in _EMBEDDINGS.items()}
    for number in range(config["num_hidden_layers"]):
        for ours, theirs in _LAYER.items():
            for kind in ("weight", "bias"):
                source = weights[f"encoder.layer.{number}.{ours}.{kind}"]
                tensors[f"blk.{number}.{theirs}.{kind}"] = source
    if pooling == "rank":
        for ours, theirs in _HEAD.items():
            for kind in ("weight", "bias"):
                tensors[f"{theirs}.{kind}"] = weights[f"{ours}.{kind}"]
    fields = {
        "general.architecture": "bert",
        "general.name": name,
        "general.license": licence,
        "general.file_type": int(half),
        "bert.context_length": context_tokens or config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": float(config["layer_norm_eps"]),
        "bert.attention.causal": False,
        "bert.pooling_type": POOLING[pooling],
        **_tokenizer(vocabulary, config["type_vocab_size"]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    gguf_file.write(path, fields, tensors, half=half)


def _tokenizer(vocabulary: Sequence[str], types: int) -> dict[str, Any]:
    ids = {token: at for at, token in enumerate(vocabulary)}
    special = {token for token in vocabulary if token.startswith("[") and token.endswith("]")}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": types,
        "tokenizer.ggml.tokens": [_spaced(token) for token in vocabulary],
        "tokenizer.ggml.token_type": [
            _CONTROL if token in special else _NORMAL for token in vocabulary
        ],
        "tokenizer.ggml.bos_token_id": ids["[CLS]"],
        "tokenizer.ggml.cls_token_id": ids["[CLS]"],
        "tokenizer.ggml.unknown_token_id": ids["[UNK]"],
        # Spelt so by the specification.
        "tokenizer.ggml.seperator_token_id": ids["[SEP]"],
        "tokenizer.ggml.padding_token_id": ids["[PAD]"],
        "tokenizer.ggml.mask_token_id": ids["[MASK]"],
        # llama.cpp puts a pair together by these: without them no [SEP] ends it, and scores differ
        # from those of the reference.
        "tokenizer.ggml.eos_token_id": ids["[SEP]"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_sep_token": False,
    }


def _spaced(token: str) -> str:
    """llama.cpp marks the beginnings of words, BERT their further pieces."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else f"\u2581{token}"
