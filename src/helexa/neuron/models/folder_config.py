"""What the JSON files beside safetensors say of a model, read with every claim in doubt.

config.json has the shape of the network. Whether its vectors are means or those of one
token stands in the files of sentence-transformers; where nothing says so nothing is
guessed, because a wrong pooling shows nowhere but in bad answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from helexa.neuron.models import tokenizer_file
from helexa.neuron.models.gguf import ModelUnreadable

CONFIG_BYTES_MAX: Final = 16 << 20
TEMPLATE_CHARS_MAX: Final = 1 << 20
LAYERS_MAX: Final = 1 << 14
WIDTH_MAX: Final = 1 << 20
_HEADS_MAX: Final = 1 << 14
_VOCABULARY_MAX: Final = 1 << 24
_CONTEXT_MAX: Final = 1 << 24
_KV_BYTES_MAX: Final = 1 << 30
_DIMENSIONS_MAX: Final = 64
_MODULES_MAX: Final = 32
_NAME_CHARS_MAX: Final = 300
_WORD_CHARS_MAX: Final = 64
_F16: Final = 2
_T = TypeVar("_T")

_GENERATES: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CLASSIFIES: Final = "ForSequenceClassification"
_PADDED_POSITIONS: Final = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Their first positions are for padding: a text has two fewer."""
_FULL_EVERY: Final = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""Every so many layers one sees all, where no `layer_types` say which."""

_MODES: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_WORDS: Final = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_HARMLESS: Final = ("Transformer", "Pooling", "Normalize")
OTHER: Final = "other"
"""Vectors that are made in a way of their own; no engine here makes them."""


def told(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ModelFiles, but for those of the weights. Raises ModelUnreadable."""
    # Models that see and hear keep the language's part in a section of its own.
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    model_class = _model_class(config)
    # One that does not say what it is generates, as most do.
    generates = not model_class or model_class.endswith(_GENERATES)
    pooling = _pooling(folder, config, model_class, generates=generates)
    layers = number(text, "num_hidden_layers", LAYERS_MAX)
    near = _near_layers(text, layers)
    per_layer = 0 if not generates else _kv_bytes_per_layer(text)
    return {
        "architecture": words(config.get("model_type"))[:_WORD_CHARS_MAX],
        "model_class": model_class,
        "name": words(config.get("_name_or_path"))[:_NAME_CHARS_MAX],
        "context_tokens_trained": _context_tokens(text),
        "chat_template": _chat_template(folder) if generates and not pooling else "",
        "pooling": pooling,
        "sees": generates and not pooling and isinstance(config.get("vision_config"), dict),
        "layers": layers,
        "kv_bytes_per_token": min((layers - near) * per_layer, _KV_BYTES_MAX),
        "window_tokens": number(text, "sliding_window", _CONTEXT_MAX) if near else 0,
        "window_kv_bytes_per_token": min(near * per_layer, _KV_BYTES_MAX),
        "heads": number(text, "num_attention_heads", _HEADS_MAX),
        "embedding_length": number(text, "hidden_size", WIDTH_MAX),
        "feed_forward_length": _feed_forward_length(text),
        "vocabulary": number(text, "vocab_size", _VOCABULARY_MAX),
        "token_bytes_max": tokenizer_file.token_bytes_max(folder / "tokenizer.json"),
        "dimensions": _dimensions(config) if pooling not in ("", "rank") else (),
    }


def _model_class(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    return words(first)[:_WORD_CHARS_MAX]


def _pooling(folder: Path, config: Mapping[str, Any], model_class: str, *, generates: bool) -> str:
    if model_class.endswith(_CLASSIFIES):
        # Two labels and more sort texts into kinds, which is not asked for here.
        return "rank" if _labels(config) == 1 else OTHER
    if not (folder / "modules.json").is_file():
        return "" if generates else OTHER
    modules = _modules(folder / "modules.json")
    kinds = [words(one.get("type")).rpartition(".")[2] for one in modules]
    if any(kind not in _HARMLESS for kind in kinds) or "Pooling" not in kinds:
        return OTHER
    path = words(modules[kinds.index("Pooling")].get("path"))
    if not path or "/" in path or "\\" in path or path.startswith("."):
        return OTHER
    return _mode(read_json(folder / path / "config.json"))


def _modules(path: Path) -> list[dict[str, Any]]:
    found = _decoded(path, list[dict[str, Any]])
    if len(found) > _MODULES_MAX:
        raise ModelUnreadable(f"{path.name} names {len(found)} modules")
    return found


def _mode(pooling: Mapping[str, Any]) -> str:
    """Newer files have one word, older ones a flag for each kind, of which several may be set."""
    if isinstance(word := pooling.get("pooling_mode"), str):
        return _WORDS.get(word, OTHER)
    modes = [mode for flag, mode in _MODES.items() if pooling.get(flag) is True]
    return modes[0] if len(modes) == 1 and modes[0] in _WORDS.values() else OTHER


def _labels(config: Mapping[str, Any]) -> int:
    named = config.get("id2label")
    if isinstance(named, dict):
        return len(named)
    # Without either there are two, by the rules of transformers.
    return number(config, "num_labels", _WORD_CHARS_MAX) or 2


def _dimensions(config: Mapping[str, Any]) -> tuple[int, ...]:
    found = config.get("matryoshka_dimensions")
    if not isinstance(found, list):
        return ()
    whole = number(config, "hidden_size", WIDTH_MAX)
    sound = {one for one in found[:_DIMENSIONS_MAX] if type(one) is int and 0 < one < whole}
    return tuple(sorted(sound))


def _context_tokens(text: Mapping[str, Any]) -> int:
    positions = number(text, "max_position_embeddings", _CONTEXT_MAX)
    unused = 2 if words(text.get("model_type")) in _PADDED_POSITIONS else 0
    return max(0, positions - unused)


def _near_layers(text: Mapping[str, Any], layers: int) -> int:
    """Of those that look back over a window only."""
    if not number(text, "sliding_window", _CONTEXT_MAX) or text.get("use_sliding_window") is False:
        return 0
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return min(kinds.count("sliding_attention"), layers)
    every = number(text, "sliding_window_pattern", LAYERS_MAX) or _FULL_EVERY.get(
        words(text.get("model_type")), 0
    )
    return layers - layers // every if every else layers


def _kv_bytes_per_layer(text: Mapping[str, Any]) -> int:
    """Keys and values of one token at f16."""
    heads = number(text, "num_attention_heads", _HEADS_MAX)
    heads_kv = number(text, "num_key_value_heads", _HEADS_MAX) or heads
    width = number(text, "hidden_size", WIDTH_MAX)
    head = number(text, "head_dim", _HEADS_MAX) or (width // heads if heads else 0)
    return heads_kv * head * 2 * _F16


def _feed_forward_length(text: Mapping[str, Any]) -> int:
    """The widest hidden row of one token; of experts, those that one token goes to."""
    dense = number(text, "intermediate_size", WIDTH_MAX)
    used = number(text, "num_experts_per_tok", _HEADS_MAX)
    expert = number(text, "moe_intermediate_size", WIDTH_MAX) or dense
    return min(max(dense, used * expert), WIDTH_MAX)


def _chat_template(folder: Path) -> str:
    """Empty where it has none, or one that cannot be read: serving says more of that."""
    try:
        path = folder / "chat_template.jinja"
        if path.is_file() and path.stat().st_size <= TEMPLATE_CHARS_MAX:
            return path.read_text(encoding="utf-8")
        found = read_json(folder / "tokenizer_config.json").get("chat_template")
    except (ModelUnreadable, OSError, UnicodeDecodeError):
        return ""
    return words(found)[:TEMPLATE_CHARS_MAX]


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelUnreadable."""
    return _decoded(path, dict[str, Any])


def _decoded(path: Path, kind: type[_T]) -> _T:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ModelUnreadable(f"{path.name} is longer than {CONFIG_BYTES_MAX} bytes")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ModelUnreadable(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"{path.name} is not understood: {error}") from error


def number(said: Mapping[str, Any], key: str, most: int) -> int:
    """0 where it is none."""
    value = said.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(0, min(value, most))


def words(value: object) -> str:
    """Empty where it is no text."""
    return value if isinstance(value, str) else ""
