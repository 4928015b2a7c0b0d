"""A Llama out of its GGUF into a folder that transformers, vLLM and mistral.rs load."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import folder, gguf_file
from .numbers import Tensor, rows

_CONTROL, _USER_DEFINED = 3, 4
_END_OF_TEXT = "<|endoftext|>"
_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def make(source: Path, target: Path) -> None:
    found = gguf_file.read(source)
    target.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": one for name, one in language(found).items()}
    folder.write_tensors(target / "model.safetensors", weights)
    ids = special_ids(found.fields)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **shape(found), **ids}
    folder.write_json(target / "config.json", config)
    write_tokenizer(target, found.fields)


def language(found: gguf_file.Gguf) -> dict[str, Tensor]:
    """By the names of transformers, without what goes before `embed_tokens` and `layers`."""
    heads = found.fields["llama.attention.head_count"]
    heads_kv = found.fields.get("llama.attention.head_count_kv", heads)
    weights = {
        "embed_tokens.weight": found.tensors["token_embd.weight"],
        "norm.weight": found.tensors["output_norm.weight"],
    }
    for number in range(found.fields["llama.block_count"]):
        for part, name in _PARTS.items():
            tensor = found.tensors[f"blk.{number}.{part}.weight"]
            if part in ("attn_q", "attn_k"):
                tensor = _halves(tensor, heads if part == "attn_q" else heads_kv)
            weights[f"layers.{number}.{name}.weight"] = tensor
    return weights


def _halves(tensor: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbouring rows of a head, transformers one half with the other."""
    listed = rows(tensor)
    size = len(listed) // heads
    values = array("f")
    for head in range(heads):
        own = listed[head * size : (head + 1) * size]
        for row in (*own[::2], *own[1::2]):
            values.extend(row)
    return Tensor(tensor.shape, values)


def shape(found: gguf_file.Gguf) -> dict[str, Any]:
    fields = found.fields
    heads = fields["llama.attention.head_count"]
    base = round(fields["llama.rope.freq_base"], 3)
    return {
        "vocab_size": found.tensors["token_embd.weight"].shape[0],
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
        "head_dim": fields["llama.embedding_length"] // heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 9),
        # mistral.rs reads the one at the top, transformers 5 the one below.
        "rope_theta": base,
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in found.tensors,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def special_ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def write_tokenizer(target: Path, fields: Mapping[str, Any], **more: Any) -> None:
    """tokenizer.json and what goes with it, from the vocabulary in the GGUF."""
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert fields["tokenizer.ggml.model"] == "gpt2"
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    marks = [
        {"id": at, "content": token, "special": types[at] == _CONTROL, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}
        for at, token in enumerate(tokens)
        if types[at] in (_CONTROL, _USER_DEFINED)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    marked = {one["id"] for one in marks}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: at for at, token in enumerate(tokens) if at not in marked},
        "merges": fields["tokenizer.ggml.merges"],
    }  # fmt: skip
    folder.write_json(
        target / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": marks,
            "normalizer": None,
            # The split by itself is that of GPT-2, as llama.cpp's `gpt-2`.
            "pre_tokenizer": {**byte_level, "use_regex": True},
            "post_processor": None,
            "decoder": {**byte_level, "use_regex": True},
            "model": model,
        },
    )
    ids = special_ids(fields)
    folder.write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[ids["bos_token_id"]],
            "eos_token": tokens[ids["eos_token_id"]],
            "pad_token": tokens[ids["pad_token_id"]],
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": fields["llama.context_length"],
            "chat_template": fields["tokenizer.chat_template"],
            **more,
        },
    )
    # llama.cpp stops at this one, too, by its name.
    ends = sorted({ids["eos_token_id"], tokens.index(_END_OF_TEXT)})
    folder.write_json(
        target / "generation_config.json", {**ids, "eos_token_id": ends, "do_sample": False}
    )
