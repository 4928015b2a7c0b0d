"""From a file's metadata to what a neuron announces and an adapter plans with.

Numbers in a file are claims. They are bounded here, so that no later sum or
message is astronomically large because somebody wrote it so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from helexa.neuron.models import attention
from helexa.neuron.models.gguf import Matrices, Metadata
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles

_TEXT_CHARS_MAX: Final = 300
_TEMPLATE_CHARS_MAX: Final = 1 << 20
_CONTEXT_MAX: Final = 1 << 24
_VOCABULARY_MAX: Final = 1 << 24
_WIDTH_MAX: Final = 1 << 20
_MATRICES_BYTES_MAX: Final = 1 << 50
_PICTURE_BYTES_MAX: Final = 1 << 34

_POOLING: Final = {0: "", 1: "mean", 2: "cls", 3: "last", 4: "rank"}

# llama.cpp's file types; what is missing here is shown by its number.
_QUANTISATION: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip


def described(
    model: ModelId,
    weights: Path,
    metadata: Metadata,
    *,
    weights_bytes: int,
    parameters: int,
    matrices: Matrices | None = None,
    projector: Path | None = None,
    projector_bytes: int = 0,
    projector_metadata: Metadata | None = None,
) -> ModelFiles:
    architecture = metadata.text("general.architecture")[:64]
    file_type = metadata.number("general.file_type")
    layers = _bounded(metadata.number(f"{architecture}.block_count"), 1 << 14)
    kept = attention.kept(metadata, architecture, layers)
    found = metadata.matrices if matrices is None else matrices
    return ModelFiles(
        model=model,
        weights=weights,
        projector=projector,
        architecture=architecture,
        name=metadata.text("general.name")[:_TEXT_CHARS_MAX],
        description=metadata.text("general.description")[:_TEXT_CHARS_MAX],
        parameters=parameters,
        quantisation=_QUANTISATION.get(file_type, f"type {file_type}"),
        context_tokens_trained=_bounded(
            metadata.number(f"{architecture}.context_length"), _CONTEXT_MAX
        ),
        weights_bytes=weights_bytes,
        projector_bytes=projector_bytes,
        projector_work_bytes=_picture_bytes(projector_metadata) if projector_metadata else 0,
        chat_template=metadata.text("tokenizer.chat_template")[:_TEMPLATE_CHARS_MAX],
        pooling=_POOLING.get(metadata.number(f"{architecture}.pooling_type"), ""),
        layers=layers,
        kv_bytes_per_token=kept.bytes_per_token,
        window_tokens=kept.window_tokens,
        window_kv_bytes_per_token=kept.window_bytes_per_token,
        state_bytes=kept.state_bytes,
        heads=kept.heads,
        embedding_length=_bounded(metadata.number(f"{architecture}.embedding_length"), _WIDTH_MAX),
        feed_forward_length=_feed_forward_length(metadata, architecture, layers),
        vocabulary=_bounded(found.vocabulary, _VOCABULARY_MAX),
        token_bytes_max=_token_bytes_max(metadata),
        multiplied=_multiplied(found),
    )


def _token_bytes_max(metadata: Metadata) -> int:
    """Of the tokenizers that give each character a token of its own or of its neighbours'.

    Others make one unknown token of any length of text. A letter of the vocabulary is a byte of
    text or more, so this is never too low.
    """
    known, kind = metadata.vocabulary, metadata.text("tokenizer.ggml.model")
    if known is None or not (kind == "llama" or (kind == "gpt2" and known.has_bytes)):
        return 0
    return known.longest_bytes


def _feed_forward_length(metadata: Metadata, architecture: str, layers: int) -> int:
    """The widest hidden row of one token; of experts, those that one token goes to."""
    dense = max(metadata.numbers(f"{architecture}.feed_forward_length", layers), default=0)
    expert = metadata.number(f"{architecture}.expert_feed_forward_length") or dense
    used = metadata.number(f"{architecture}.expert_used_count")
    shared = metadata.number(f"{architecture}.expert_shared_feed_forward_length")
    return _bounded(max(dense, used * expert + shared), _WIDTH_MAX)


def _picture_bytes(projector: Metadata) -> int:
    """One picture in f32: its patches through the widest layer, and how they attend."""
    vision = "clip.vision"
    patch = max(1, projector.number(f"{vision}.patch_size"))
    patches = (_bounded(projector.number(f"{vision}.image_size"), 1 << 14) // patch) ** 2
    width = projector.number(f"{vision}.embedding_length")
    hidden = projector.number(f"{vision}.feed_forward_length")
    scores = projector.number(f"{vision}.attention.head_count") * patches
    return _bounded(
        patches * max(3 * hidden + 5 * width, 8 * width + scores) * 4, _PICTURE_BYTES_MAX
    )


def _multiplied(matrices: Matrices) -> tuple[tuple[int, int], ...]:
    by_type = dict(matrices.by_type)
    if not matrices.has_output:
        size = by_type.get(matrices.embedding_type, 0) + matrices.embedding_bytes
        by_type[matrices.embedding_type] = size
    return tuple(
        (kind, _bounded(size, _MATRICES_BYTES_MAX)) for kind, size in sorted(by_type.items())
    )


def _bounded(claim: int, most: int) -> int:
    return max(0, min(claim, most))
