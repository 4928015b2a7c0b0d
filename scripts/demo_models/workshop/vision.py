"""The eye of `helexa-demo-vision`: a vision transformer for llama.cpp's `janus_pro` loader.

That loader was chosen because it prepares an image in the plainest way: fit the picture into a
square by bilinear sampling, fill the rest with grey 127, subtract the mean, divide by the
deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from .gguf_files import add_tensor, save, write_general
from .llama import Linear, attend

MEAN, DEVIATION, PADDING = 0.5, 0.5, 127
MASK_LAYER = 1  # behind this layer each patch must tell which of its pixels belong to the shape


@dataclass(frozen=True)
class EyeShape:
    """Sizes of the vision transformer."""

    image: int = 64
    patch: int = 8
    width: int = 96
    layers: int = 4
    heads: int = 3
    hidden: int = 256
    epsilon: float = 1e-6

    @property
    def patches(self) -> int:
        """How many patches, and so tokens, a picture becomes."""
        return (self.image // self.patch) ** 2


def _sampled(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Bilinear sampling as llama.cpp does it: four neighbours, aligned at the first corner only."""
    source_height, source_width = pixels.shape[:2]
    x = np.arange(width, dtype=np.float32) * np.float32((source_width - 1) / width)
    y = np.arange(height, dtype=np.float32) * np.float32((source_height - 1) / height)
    left = np.minimum(x.astype(np.int64), source_width - 2)
    top = np.minimum(y.astype(np.int64), source_height - 2)
    right_share = (x - left)[None, :, None]
    lower_share = (y - top)[:, None, None]
    corner = pixels.astype(np.float32)
    upper = corner[top][:, left] * (1 - right_share) + corner[top][:, left + 1] * right_share
    lower = (
        corner[top + 1][:, left] * (1 - right_share) + corner[top + 1][:, left + 1] * right_share
    )
    return (upper * (1 - lower_share) + lower * lower_share).astype(np.uint8)


def prepared(image: Image.Image, side: int, padding: int = PADDING) -> NDArray[np.uint8]:
    """The square of pixels that the encoder is given."""
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    if (width, height) == (side, side):
        return pixels
    scale = np.float32(min(np.float32(side / width), np.float32(side / height)))
    new_width, new_height = (
        min(int(np.ceil(width * scale)), side),
        min(int(np.ceil(height * scale)), side),
    )
    square = np.full((side, side, 3), padding, dtype=np.uint8)
    x, y = (side - new_width) // 2, (side - new_height) // 2
    square[y : y + new_height, x : x + new_width] = _sampled(pixels, new_width, new_height)
    return square


def patches(pixels: Tensor, shape: EyeShape) -> Tensor:
    """Cut (batch, row, column, colour) into patches of (colour, row, column)."""
    side, patch = shape.image // shape.patch, shape.patch
    cut = pixels.view(-1, side, patch, side, patch, pixels.shape[-1]).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(-1, side * side, pixels.shape[-1] * patch * patch)


class EyeBlock(nn.Module):
    """A pre-norm transformer layer with biases and GELU."""

    def __init__(self, shape: EyeShape) -> None:
        """Make the layer's weights."""
        super().__init__()
        self.heads = shape.heads
        self.ln1 = nn.LayerNorm(shape.width, shape.epsilon)
        self.ln2 = nn.LayerNorm(shape.width, shape.epsilon)
        self.qkv = Linear(shape.width, 3 * shape.width)
        self.out = Linear(shape.width, shape.width)
        self.up = Linear(shape.width, shape.hidden)
        self.down = Linear(shape.hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """Add this layer's part to the stream."""
        batch, length, width = x.shape
        mixed = (
            self.qkv(_norm(self.ln1, x))
            .view(batch, length, 3, self.heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        seen = attend(mixed[0], mixed[1], mixed[2], causal=False)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(_norm(self.ln2, x)), approximate="tanh"))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(
        x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
    )


class Eye(nn.Module):
    """Pixels in, one embedding of the language model a patch out."""

    def __init__(self, shape: EyeShape, language_width: int) -> None:
        """Make the weights."""
        super().__init__()
        self.shape = shape
        self.patch = Linear(3 * shape.patch**2, shape.width)
        self.position_embedding = nn.Parameter(torch.randn(shape.patches, shape.width) * 0.1)
        self.blocks = nn.ModuleList(EyeBlock(shape) for _ in range(shape.layers))
        self.post = nn.LayerNorm(shape.width, shape.epsilon)
        self.first = Linear(shape.width, language_width)
        self.second = Linear(language_width, language_width)

    def layers(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What the transformer makes of each patch, early on and in the end."""
        x = patches((pixels.float() / 255 - MEAN) / DEVIATION, self.shape)
        x = self.patch(x.bfloat16()) + self.position_embedding.bfloat16()
        early = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == MASK_LAYER:
                early = x
        return early, _norm(self.post, x)

    def project(self, seen: Tensor) -> Tensor:
        """Into the language model's space."""
        return self.second(functional.gelu(self.first(seen), approximate="tanh"))


def write_eye(
    path: Path,
    name: str,
    description: str,
    shape: EyeShape,
    language_width: int,
    weights: dict[str, Tensor],
) -> None:
    """The encoder and projector as an mmproj file."""
    writer = gguf.GGUFWriter(str(path), "clip")
    write_general(writer, name, description, sum(weight.numel() for weight in weights.values()))
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "janus_pro")
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.image_size", shape.image)
    writer.add_uint32("clip.vision.patch_size", shape.patch)
    writer.add_uint32("clip.vision.embedding_length", shape.width)
    writer.add_uint32("clip.vision.feed_forward_length", shape.hidden)
    writer.add_uint32("clip.vision.projection_dim", language_width)
    writer.add_uint32("clip.vision.block_count", shape.layers)
    writer.add_uint32("clip.vision.attention.head_count", shape.heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", shape.epsilon)
    writer.add_array("clip.vision.image_mean", [MEAN] * 3)
    writer.add_array("clip.vision.image_std", [DEVIATION] * 3)
    kernel = weights["patch.weight"].view(shape.width, 3, shape.patch, shape.patch)
    add_tensor(writer, "v.patch_embd.weight", kernel, quantised=False)
    add_tensor(writer, "v.patch_embd.bias", weights["patch.bias"])
    add_tensor(writer, "v.position_embd.weight", weights["position_embedding"], quantised=False)
    for number in range(shape.layers):
        source, target = f"blocks.{number}.", f"v.blk.{number}."
        for kind in ("weight", "bias"):
            for part, piece in zip("qkv", weights[f"{source}qkv.{kind}"].chunk(3), strict=True):
                add_tensor(writer, f"{target}attn_{part}.{kind}", piece)
            names = (
                ("out", "attn_out"),
                ("up", "ffn_up"),
                ("down", "ffn_down"),
                ("ln1", "ln1"),
                ("ln2", "ln2"),
            )
            for ours, theirs in names:
                add_tensor(writer, f"{target}{theirs}.{kind}", weights[f"{source}{ours}.{kind}"])
    for ours, theirs in (("post", "v.post_ln"), ("first", "mm.0"), ("second", "mm.1")):
        for kind in ("weight", "bias"):
            add_tensor(writer, f"{theirs}.{kind}", weights[f"{ours}.{kind}"])
    save(writer)
