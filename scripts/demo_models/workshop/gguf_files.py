"""Writing the models as GGUF files that llama.cpp loads without a conversion step."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType, TokenType
from torch import Tensor

from .conversation import CHAT_TEMPLATE
from .llama import Shape
from .vocabulary import CONTROL, END_OF_TEXT, IMAGE_MARKER, Vocabulary

AUTHOR = "helexa"
LICENCE = "apache-2.0"


def write_general(writer: gguf.GGUFWriter, name: str, description: str, parameters: int) -> None:
    """Who made it, under which licence, how large."""
    writer.add_name(name)
    writer.add_description(description)
    writer.add_author(AUTHOR)
    writer.add_organization(AUTHOR)
    writer.add_license(LICENCE)
    writer.add_basename(name)
    writer.add_version("1")
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_tags(["helexa", "demo"])
    writer.add_languages(["en"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)


def add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: Tensor, *, quantised: bool | None = None
) -> None:
    """Matrices as Q8_0 where their rows allow it, everything else as f32."""
    array = np.ascontiguousarray(tensor.detach().float().numpy())
    fits = array.ndim == 2 and array.shape[1] % 32 == 0
    if fits if quantised is None else quantised:
        packed = gguf.quants.quantize(array, GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name, array)


def _token_type(token: str, vocabulary: Vocabulary) -> TokenType:
    if token in CONTROL or token == IMAGE_MARKER:
        return TokenType.CONTROL
    return TokenType.USER_DEFINED if token in vocabulary.marks else TokenType.NORMAL


def _write_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([_token_type(token, vocabulary) for token in vocabulary.tokens])
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.ids[END_OF_TEXT])
    writer.add_eos_token_id(vocabulary.ids["<|im_end|>"])
    writer.add_eot_token_id(vocabulary.ids["<|im_end|>"])
    writer.add_pad_token_id(vocabulary.ids[END_OF_TEXT])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def save(writer: gguf.GGUFWriter) -> None:
    """Write the file and close it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama(
    path: Path,
    name: str,
    description: str,
    shape: Shape,
    weights: dict[str, Tensor],
    vocabulary: Vocabulary,
) -> None:
    """A language model with its vocabulary and chat template."""
    writer = gguf.GGUFWriter(str(path), "llama")
    write_general(writer, name, description, sum(weight.numel() for weight in weights.values()))
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    _write_vocabulary(writer, vocabulary)
    add_tensor(writer, "token_embd.weight", weights["embedding.weight"])
    add_tensor(writer, "output_norm.weight", weights["norm"])
    for number in range(shape.layers):
        source, target = f"blocks.{number}.", f"blk.{number}."
        add_tensor(writer, target + "attn_norm.weight", weights[source + "attn_norm"])
        add_tensor(writer, target + "ffn_norm.weight", weights[source + "ffn_norm"])
        for part, weight in zip("qkv", weights[source + "qkv.weight"].chunk(3), strict=True):
            add_tensor(writer, f"{target}attn_{part}.weight", weight)
        gate, up = weights[source + "gate_up.weight"].chunk(2)
        add_tensor(writer, target + "ffn_gate.weight", gate)
        add_tensor(writer, target + "ffn_up.weight", up)
        add_tensor(writer, target + "ffn_down.weight", weights[source + "down.weight"])
        add_tensor(writer, target + "attn_output.weight", weights[source + "out.weight"])
    save(writer)


def read_llama(path: Path, layers: int) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The weights, tokens and merges of a model that `write_llama` wrote, to train it further."""
    reader = gguf.GGUFReader(path)
    found = {
        tensor.name: torch.from_numpy(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        )
        for tensor in reader.tensors
    }
    weights = {"embedding.weight": found["token_embd.weight"], "norm": found["output_norm.weight"]}
    for number in range(layers):
        target, source = f"blocks.{number}.", f"blk.{number}."
        weights[target + "attn_norm"] = found[source + "attn_norm.weight"]
        weights[target + "ffn_norm"] = found[source + "ffn_norm.weight"]
        qkv = [found[f"{source}attn_{part}.weight"] for part in "qkv"]
        weights[target + "qkv.weight"] = torch.cat(qkv)
        gate_up = [found[f"{source}ffn_{part}.weight"] for part in ("gate", "up")]
        weights[target + "gate_up.weight"] = torch.cat(gate_up)
        weights[target + "down.weight"] = found[source + "ffn_down.weight"]
        weights[target + "out.weight"] = found[source + "attn_output.weight"]
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    return weights, tokens, merges
