"""The demo model that sees, as a LLaVA: a SigLIP eye, a projector of two layers, a Llama.

llama.cpp knows it as `janus_pro`, whose parts are the same. transformers' Janus puts marks
around a picture that this model never saw, and draws pictures, too; LLaVA does neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import folder, gguf_file, llama
from .numbers import Tensor

_IMAGE_TOKEN = "<|image|>"
_BILINEAR = 2
_BLOCK = {
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_ACTIVATION = "gelu_pytorch_tanh"
_PLAIN = "message.content"
_PARTS = "said(message.content)"
_MACRO = """{%- macro said(content) -%}
{%- if content is string -%}
{{- content -}}
{%- else -%}
{%- for part in content -%}
{{- '<|image|>' if part.type in ('image', 'image_url') else part.text -}}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""


def make(source: Path, projector: Path, target: Path) -> None:
    words, eye = gguf_file.read(source), gguf_file.read(projector)
    target.mkdir(parents=True, exist_ok=True)
    text = {f"language_model.model.{name}": one for name, one in llama.language(words).items()}
    # Written out although it is the embedding again: then nobody need know that they are tied.
    text["language_model.lm_head.weight"] = words.tensors["token_embd.weight"]
    folder.write_tensors(target / "model.safetensors", {**text, **_sight(eye)})
    folder.write_json(target / "config.json", _config(words, eye))
    template = _template(words.fields)
    # Processors look for it here, tokenizers in their own configuration.
    (target / "chat_template.jinja").write_text(template, encoding="utf-8")
    llama.write_tokenizer(
        target,
        {**words.fields, "tokenizer.chat_template": template},
        extra_special_tokens={"image_token": _IMAGE_TOKEN},
        processor_class="LlavaProcessor",
    )
    side = eye.fields["clip.vision.image_size"]
    folder.write_json(target / "preprocessor_config.json", _preparation(eye.fields, side))
    folder.write_json(
        target / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "image_token": _IMAGE_TOKEN,
            "num_additional_image_tokens": 0,
            "patch_size": eye.fields["clip.vision.patch_size"],
            "vision_feature_select_strategy": "full",
        },
    )


def _template(fields: Mapping[str, Any]) -> str:
    """The same, for messages whose content is a list of parts; llama.cpp joins these before."""
    return _MACRO + fields["tokenizer.chat_template"].replace(f"+ {_PLAIN} +", f"+ {_PARTS} +")


def _sight(eye: gguf_file.Gguf) -> dict[str, Tensor]:
    tower = "vision_tower.vision_model."
    found = {
        f"{tower}embeddings.patch_embedding.weight": eye.tensors["v.patch_embd.weight"],
        f"{tower}embeddings.patch_embedding.bias": eye.tensors["v.patch_embd.bias"],
        f"{tower}embeddings.position_embedding.weight": eye.tensors["v.position_embd.weight"],
    }
    for kind in ("weight", "bias"):
        found[f"{tower}post_layernorm.{kind}"] = eye.tensors[f"v.post_ln.{kind}"]
        for number in range(eye.fields["clip.vision.block_count"]):
            for ours, theirs in _BLOCK.items():
                name = f"{tower}encoder.layers.{number}.{theirs}.{kind}"
                found[name] = eye.tensors[f"v.blk.{number}.{ours}.{kind}"]
        for ours, theirs in (("mm.0", "linear_1"), ("mm.1", "linear_2")):
            found[f"multi_modal_projector.{theirs}.{kind}"] = eye.tensors[f"{ours}.{kind}"]
    return found


def _config(words: gguf_file.Gguf, eye: gguf_file.Gguf) -> dict[str, Any]:
    ids = llama.special_ids(words.fields)
    side, patch = (eye.fields[f"clip.vision.{name}_size"] for name in ("image", "patch"))
    tied = {"tie_word_embeddings": False}
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": words.fields["tokenizer.ggml.tokens"].index(_IMAGE_TOKEN),
        "image_seq_length": (side // patch) ** 2,
        "projector_hidden_act": _ACTIVATION,
        "multimodal_projector_bias": True,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "text_config": {"model_type": "llama", **llama.shape(words), **ids, **tied},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": eye.fields["clip.vision.embedding_length"],
            "intermediate_size": eye.fields["clip.vision.feed_forward_length"],
            "num_hidden_layers": eye.fields["clip.vision.block_count"],
            "num_attention_heads": eye.fields["clip.vision.attention.head_count"],
            "image_size": side,
            "patch_size": patch,
            "hidden_act": _ACTIVATION,
            "layer_norm_eps": 1e-6,
            "vision_use_head": False,
            # The projector gets what comes out of the last norm, not of the last layer.
            "tie_last_hidden_states": True,
        },
        **ids,
        **tied,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def _preparation(fields: Mapping[str, Any], side: int) -> dict[str, Any]:
    square = {"height": side, "width": side}
    return {
        "image_processor_type": "LlavaImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_convert_rgb": True,
        # To a square, with the mean's grey, before anything else.
        "do_pad": True,
        "do_resize": True,
        "size": square,
        "resample": _BILINEAR,
        "do_center_crop": True,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": fields["clip.vision.image_mean"],
        "image_std": fields["clip.vision.image_std"],
    }
