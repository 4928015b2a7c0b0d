"""Two small BERTs of made-up weights: one that makes vectors, one that scores pairs of texts.

They know nothing. What they are for is to compare: an engine that computes them as
transformers does computes a trained one so, too. Nothing trained that scores pairs can be
had from a package registry.
"""

from __future__ import annotations

import random
import string
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import bert, folder
from .numbers import Tensor

EMBED, RERANK = "tiny-embed", "tiny-rerank"
_SEED = 20271
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPREAD = 0.25
"""Of the weights: so large that different words give quite different vectors."""

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    # vLLM on a processor computes no attention with heads narrower than 32.
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
    "dtype": "float32",
    "torch_dtype": "float32",
}


def vocabulary(words: Iterable[str]) -> list[str]:
    """Single letters first, so that nothing is unknown, then whole words."""
    letters = string.ascii_lowercase + string.digits
    found = [*_SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys([*found, *sorted(words)]))


def make(out: Path, words: Iterable[str]) -> None:
    tokens = vocabulary(words)
    for number, name in enumerate((EMBED, RERANK)):
        rng = random.Random(_SEED + number)
        weights = _weights(rng, len(tokens))
        ranks = name == RERANK
        if ranks:
            weights |= _head(rng)
        _write_folder(out / name, tokens, weights, ranks=ranks)
        for kind in ("f16", "f32"):
            bert.write(
                out / f"{name}-{kind}.gguf",
                CONFIG,
                tokens,
                weights,
                pooling="rank" if ranks else "mean",
                half=kind == "f16",
                name=name,
                licence="apache-2.0",
            )


def _weights(rng: random.Random, tokens: int) -> dict[str, Tensor]:
    width, hidden = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    weights = {
        "embeddings.word_embeddings.weight": _drawn(rng, tokens, width),
        "embeddings.position_embeddings.weight": _drawn(
            rng, CONFIG["max_position_embeddings"], width
        ),
        "embeddings.token_type_embeddings.weight": _alike(rng, width),
        **_norm("embeddings.LayerNorm", width),
    }
    for number in range(CONFIG["num_hidden_layers"]):
        layer = f"encoder.layer.{number}."
        for name in ("query", "key", "value"):
            weights |= _linear(rng, f"{layer}attention.self.{name}", width, width)
        weights |= _linear(rng, f"{layer}attention.output.dense", width, width)
        weights |= _norm(f"{layer}attention.output.LayerNorm", width)
        weights |= _linear(rng, f"{layer}intermediate.dense", hidden, width)
        weights |= _linear(rng, f"{layer}output.dense", width, hidden)
        weights |= _norm(f"{layer}output.LayerNorm", width)
    return weights


def _head(rng: random.Random) -> dict[str, Tensor]:
    width = CONFIG["hidden_size"]
    return _linear(rng, "pooler.dense", width, width) | _linear(rng, "classifier", 1, width)


def _drawn(rng: random.Random, *shape: int) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    return Tensor(shape, array("f", [rng.gauss(0.0, _SPREAD) for _ in range(count)]))


def _alike(rng: random.Random, width: int) -> Tensor:
    # llama.cpp takes every token for one of the first text, and others do not. So that all are
    # right, the two kinds of this model do not differ.
    row = _drawn(rng, width).values
    return Tensor((CONFIG["type_vocab_size"], width), row * CONFIG["type_vocab_size"])


def _linear(rng: random.Random, name: str, rows: int, columns: int) -> dict[str, Tensor]:
    return {f"{name}.weight": _drawn(rng, rows, columns), f"{name}.bias": _drawn(rng, rows)}


def _norm(name: str, width: int) -> dict[str, Tensor]:
    ones = array("f", [1.0]) * width
    zeros = array("f", [0.0]) * width
    return {f"{name}.weight": Tensor((width,), ones), f"{name}.bias": Tensor((width,), zeros)}


def _write_folder(
    target: Path, tokens: list[str], weights: dict[str, Tensor], *, ranks: bool
) -> None:
    config = {**CONFIG, "vocab_size": len(tokens)}
    if ranks:
        config |= {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
        }
        weights = {
            name if name.startswith("classifier") else f"bert.{name}": one
            for name, one in weights.items()
        }
    else:
        config["architectures"] = ["BertModel"]
        _write_pooling(target)
    folder.write_json(target / "config.json", config)
    folder.write_tensors(target / "model.safetensors", weights)
    _write_tokenizer(target, tokens)


def _write_pooling(target: Path) -> None:
    """As sentence-transformers says that vectors are means."""
    kinds = "sentence_transformers.models"
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    folder.write_json(
        target / "modules.json",
        [
            {"idx": at, "name": str(at), "path": path, "type": f"{kinds}.{kind}"}
            for at, (path, kind) in enumerate(parts)
        ],
    )
    pooling = {
        "word_embedding_dimension": CONFIG["hidden_size"],
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    folder.write_json(target / "1_Pooling" / "config.json", pooling)


def _write_tokenizer(target: Path, tokens: list[str]) -> None:
    ids = {token: at for at, token in enumerate(tokens)}
    cls, sep = ({"SpecialToken": {"id": one, "type_id": 0}} for one in ("[CLS]", "[SEP]"))
    first, second = ({"Sequence": {"id": one, "type_id": at}} for at, one in enumerate("AB"))
    last = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    folder.write_json(
        target / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": ids[token], "content": token, "special": True, "normalized": False,
                 "single_word": False, "lstrip": False, "rstrip": False}
                for token in _SPECIAL
            ],
            "normalizer": {"type": "BertNormalizer", "clean_text": True,
                           "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [cls, first, sep],
                "pair": [cls, first, sep, second, last],
                "special_tokens": {
                    one: {"id": one, "ids": [ids[one]], "tokens": [one]}
                    for one in ("[CLS]", "[SEP]")
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": ids},
        },
    )  # fmt: skip
    (target / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    folder.write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            "model_max_length": CONFIG["max_position_embeddings"],
        },
    )
